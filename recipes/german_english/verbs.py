"""The verbs, each with the frame it is used in: who does it, to what, and how the rest is said."""

from __future__ import annotations

from dataclasses import dataclass

from . import english, german
from .nouns import Noun, select


@dataclass(frozen=True, eq=False)
class Verb:
    """A verb of both languages in one of its senses.

    The tables mark stative verbs with t, ongoing ones with g, punctual with p and accidental with a.

    Attributes:
        particle: The English words that always follow the verb, with a leading space.
        splits: Whether an English pronoun object goes between the verb and the particle (turn it on).
        stative: Whether the English present is never progressive and a point in time makes no sense.
        ongoing: Whether the English present is progressive although the verb is stative.
        punctual: Whether it happens in an instant, so that the present is left to conditions.
        accidental: Whether it happens to people against their will.
        agents: The nouns that can be its subject.
        frame: How the objects are said; see the tables.
        themes: The nouns that can be its object.
        tails: The kinds of adverbial that go with it.
    """

    de: german.GermanVerb
    en: english.EnglishVerb
    particle: str
    splits: bool
    stative: bool
    ongoing: bool
    punctual: bool
    accidental: bool
    agents: tuple[Noun, ...]
    frame: str
    themes: tuple[Noun, ...]
    tails: tuple[str, ...]


# German | irregular parts | English | flags (s sein; see Verb for t, g, p, a) | subjects | tails
_INTRANSITIVE = """
schlafen | schläft schlief geschlafen | sleep,slept | | person animal | sleep
arbeiten | | work | | person | work
lachen | | laugh | | person | loud
weinen | | cry | | person | loud
singen | singt sang gesungen | sing,sang,sung | | person | loud room out
tanzen | | dance | | person | out room friends
schwimmen | schwimmt schwamm geschwommen | swim,swam,swum | s | person | water fast friends
frühstücken | | have breakfast | | person | friends room
telefonieren | | talk,, on the phone | | person | loud room
spielen | | play | | learner pet | out
zeichnen | | draw,drew,drawn | | person | out room
aus+ruhen | | rest | | person | refl out
auf+stehen | steht stand gestanden | get,got,got up | s | person | early
auf+wachen | | wake,woke,woken up | s | person | early
ein+schlafen | schläft schlief geschlafen | fall,fell,fallen asleep | s | person animal | sleep early
an+kommen | kommt kam gekommen | arrive | s | person | arrive
zurück+kommen | kommt kam gekommen | come,came,come back | s | person | early
los+fahren | fährt fuhr gefahren | set,set off | s | person | early
ein+kaufen | | shop | | person | shop friends
fern+sehen | sieht sah gesehen | watch,, television | | person | room friends
bellen | | bark | | Hund | loud
laufen | läuft lief gelaufen | run,ran,run | s | pet wild prey | run
"""

# German | irregular parts | English | flags | subjects | objects | tails
_TRANSITIVE = """
lesen | liest las gelesen | read,read | | person | text | read
schreiben | schreibt schrieb geschrieben | write,wrote,written | | person | written | read
kaufen | | buy,bought | | person | goods | shop
verkaufen | | sell,sold | | person | goods vehicle | shop
suchen | | look,, for | | person | portable text vehicle pet k | find
finden | findet fand gefunden | find,found | p | person | portable text pet | find
sehen | sieht sah gesehen | see,saw,seen | t | person animal | person animal | out
essen | isst aß gegessen | eat,ate,eaten | | person | fruit food | eat
trinken | trinkt trank getrunken | drink,drank,drunk | | person | drink | eat
reparieren | | repair | | person | fixed | home
öffnen | | open | | person | door openable | slow
schließen | schließt schloss geschlossen | close | | person | door openable | slow
waschen | wäscht wusch gewaschen | wash | | person | clothes vehicle | home
tragen | trägt trug getragen | wear,wore,worn | | person | clothes | out
tragen | trägt trug getragen | carry | | person | carried | dest
brauchen | | need | t | person | goods vehicle money |
haben | hat hatte gehabt | have | t | person | goods pet vehicle |
lieben | | love | t | person | k pet |
kennen | kennt kannte gekannt | know,knew,known | t | person | person |
besuchen | | visit | | person | k p:person | city
treffen | trifft traf getroffen | meet,met | | person | person | out
hören | | hear,heard | t | person animal | animal |
malen | | paint | | person | painted | slow
fotografieren | | photograph | | person | animal plant sight | out
putzen | | clean | | person | room openable vehicle | slow
bezahlen | | pay,paid for | | person | goods fruit | shop
bestellen | | order | | person | food drink text goods |
backen | backt backte gebacken | bake | | person | baked | kitchen
kochen | | cook | | person | boiled | kitchen
vergessen | vergisst vergaß vergessen | forget,forgot,forgotten | pa | person | portable text money |
verlieren | verliert verlor verloren | lose,lost | pa | person | portable money | find
füttern | | feed,fed | | person | pet farm | out
streicheln | | stroke | | person | pet farm |
jagen | | chase | | chaser | prey | out
fangen | fängt fing gefangen | catch,caught | p | chaser | prey | out
fressen | frisst fraß gefressen | eat,ate,eaten | | chaser | prey boiled |
beißen | beißt biss gebissen | bite,bit,bitten | p | chaser | person chaser | out
bauen | | build,built | | person | built | slow
übersetzen | | translate | | person | text | read
verstehen | versteht verstand verstanden | understand,understood | t | person | text lesson person |
unterschreiben | unterschreibt unterschrieb unterschrieben | sign | | person | Brief | slow
besichtigen | | visit | | person | sight | friends
gießen | gießt goss gegossen | water | | person | plant | slow
wecken | | wake,woke,woken ~up | | person | person | early
bewundern | | admire | | person | painted sight person |
an+rufen | ruft rief gerufen | call | | person | person | early
ab+holen | | pick ~up | | person | k learner p:person sent | arrive
ein+laden | lädt lud geladen | invite | | person | p:person k learner |
mit+bringen | bringt brachte gebracht | bring,brought along | | person | gift baked drink |
weg+werfen | wirft warf geworfen | throw,threw,thrown ~away | | person | portable text clothes |
an+ziehen | zieht zog gezogen | put,put ~on | | person | Mantel Jacke Hemd Pullover | slow
aus+ziehen | zieht zog gezogen | take,took,taken ~off | | person | Mantel Jacke Hemd Pullover | slow
an+machen | | turn ~on | | person | switched |
aus+machen | | turn ~off | | person | switched |
ein+schalten | | switch ~on | | person | switched |
aus+schalten | | switch ~off | | person | switched |
auf+machen | | open | | person | door openable | slow
zu+machen | | close | | person | door openable | slow
ein+packen | | wrap ~up | | person | portable | slow
aus+packen | | unpack | | person | Koffer Tasche Geschenk Paket Kiste | slow
ab+schließen | schließt schloss geschlossen | lock | | person | Tür Tor Haus Schrank Auto |
auf+räumen | | tidy ~up | | person | room | slow
an+schauen | | look at | | person | painted hung sight animal |
aus+leihen | leiht lieh geliehen | borrow | | person | text vehicle portable |
vor+bereiten | | prepare | | person | event | work
ein+sammeln | | collect | | person | Heft Ball fruit Blume |
"""

# German | irregular parts | English | flags | subjects | dative objects | tails
_DATIVE = """
helfen | hilft half geholfen | help | | person | person | home
danken | | thank | | person | person |
antworten | | answer | | person | person | loud
folgen | | follow | s | person animal | person animal | out
gratulieren | | congratulate | | person | person |
vertrauen | | trust | t | person | person |
zu+hören | | listen to | | person | person | room
zu+sehen | sieht sah gesehen | watch | | person | person animal learner | out
begegnen | | run,ran,run into | sp | person | person animal | out
"""

# German | irregular parts | English | flags | subjects | themes | English frame (to: object first, then to)
_DITRANSITIVE = """
geben | gibt gab gegeben | give,gave,given | | person | portable text fruit money |
schenken | | give,gave,given | | person | gift pet | present
zeigen | | show,showed,shown | | person | portable text vehicle painted sight pet |
bringen | bringt brachte gebracht | bring,brought | | person | portable text drink food fruit |
schicken | | send,sent | | person | sent written |
leihen | leiht lieh geliehen | lend,lent | | person | portable text vehicle money |
verkaufen | | sell,sold | | person | goods pet |
kaufen | | buy,bought | | person | goods gift |
erklären | | explain | | person | lesson | to
empfehlen | empfiehlt empfahl empfohlen | recommend | | person | text sight Hotel | to
vor+lesen | liest las gelesen | read,read | | person | text | to
zurück+geben | gibt gab gegeben | return | | person | portable text money vehicle | to
versprechen | verspricht versprach versprochen | promise | p | person | gift pet money vehicle |
"""

# German | irregular parts | English | flags | subjects | objects | preposition and case
_PREPOSITIONAL = """
warten | | wait,, for | | person | person awaited | auf acc
denken | denkt dachte gedacht | think,thought about | | person | k event lesson person | an acc
sprechen | spricht sprach gesprochen | talk to | | person | person | mit dat
träumen | | dream of | | person | k pet event vehicle wild | von dat
lachen | | laugh at | | person | text animal person | über acc
sprechen | spricht sprach gesprochen | talk about | | person | text event lesson | über acc
freuen | | look,, forward to | tg | person | event | refl auf acc
kümmern | | look,, after | | person | learner animal k | refl um acc
erinnern | | remember | t | person | person event text sight | refl an acc
teil+nehmen | nimmt nahm genommen | take,took,taken part in | | person | joined | an dat
spielen | | play,, with | | learner | pet Ball k | mit dat
"""

# German | irregular parts | English | flags | subjects | tails
_MOVEMENT = """
gehen | geht ging gegangen | go,went,gone | s | person | dest
laufen | läuft lief gelaufen | run,ran,run | s | person | dest
fahren | fährt fuhr gefahren | go,went,gone | s | person | travel
reisen | | travel | s | person | city
fliegen | fliegt flog geflogen | fly,flew,flown | s | person | city
zurück+fahren | fährt fuhr gefahren | go,went,gone back | s | person | travel
springen | springt sprang gesprungen | jump | s | tame | jump
"""

# German | irregular parts | English | flags | subjects | themes | tails
_PLACEMENT = """
legen | | put,put | | person | flat | onto
stellen | | put,put | | person | upright | onto
"""

# German | irregular parts | English | flags | subjects | tails
_POSITION = """
liegen | liegt lag gelegen | lie,lay,lain | | flat | on
stehen | steht stand gestanden | stand,stood | | upright | on
sitzen | sitzt saß gesessen | sit,sat | | tame | on
sitzen | sitzt saß gesessen | sit,sat | | person | sit
stehen | steht stand gestanden | stand,stood | | person | wait
wohnen | | live | t | person | home_city
"""


def make_verb(
    verb: str, parts: str, english_part: str, flags: str, agents: str, frame: str, themes: str = "", tails: str = ""
) -> Verb:
    """Build a verb from the fields of a table line."""
    head, _, particle = english_part.partition(" ")
    principal = head.split(",")
    base, past = principal[0], principal[1] if len(principal) > 1 else ""
    participle = principal[2] if len(principal) > 2 else ""
    splits = particle.startswith("~")
    particle = " " + particle.removeprefix("~") if particle else ""
    return Verb(
        german.conjugate(verb, parts, "s" in flags),
        english.conjugate(base, past, participle),
        particle,
        splits,
        "t" in flags,
        "g" in flags,
        "p" in flags,
        "a" in flags,
        select(agents),
        frame,
        select(themes),
        tuple(tails.split()),
    )


def _parse(table: str, frame: str, has_themes: bool = True) -> tuple[Verb, ...]:
    verbs = []
    for line in table.strip().splitlines():
        fields = [part.strip() for part in line.split("|")]
        verb, parts, english_part, flags, agents = fields[:5]
        themes, tails = (fields[5], fields[6]) if has_themes else ("", fields[5])
        verbs.append(make_verb(verb, parts, english_part, flags, agents, frame, themes, tails))
    return tuple(verbs)


INTRANSITIVE = _parse(_INTRANSITIVE, "intransitive", has_themes=False)
TRANSITIVE = _parse(_TRANSITIVE, "transitive")
DATIVE = _parse(_DATIVE, "dative")
DITRANSITIVE = _parse(_DITRANSITIVE, "ditransitive")
PREPOSITIONAL = _parse(_PREPOSITIONAL, "prepositional")
MOVEMENT = _parse(_MOVEMENT, "movement", has_themes=False)
PLACEMENT = _parse(_PLACEMENT, "placement")
POSITION = _parse(_POSITION, "position", has_themes=False)
