"""Words of two meanings, each meaning with a verb and surroundings that leave no doubt."""

from __future__ import annotations

from dataclasses import dataclass

from .adverbials import Pair
from .german import ACC, DAT
from .nouns import Noun, make_noun
from .verbs import Verb, make_verb

# verb | irregular parts | English | flags | noun | English | adjectives | preposition, case, English | tails
# What follows the preposition's English after a comma are direct objects.
_AMBIGUOUS = """
besichtigen | | visit | | Schloss n es Schlösser | castle | alt old,berühmt famous,groß big,schön beautiful | acc | \
im Wald = in the forest; am See = by the lake; in Wien = in Vienna
reparieren | | repair | | Schloss n es Schlösser | lock | kaputt broken,alt old,klein small | acc | an der Tür = on \
the door; am Koffer = on the suitcase; am Fahrrad = on the bicycle
wohnen | | live | t | Schloss n es Schlösser | castle | alt old,groß big,schön beautiful | in dat in | in Frankreich \
= in France; am Meer = by the sea
sitzen | sitzt saß gesessen | sit,sat | | Bank f - Bänke | bench | alt old,grün green,lang long | auf dat on | im \
Park = in the park; vor dem Haus = in front of the house; im Garten = in the garden
arbeiten | | work | | Bank f - Banken | bank | groß big,neu new,klein small | bei dat at | in Berlin = in Berlin; in \
Zürich = in Zurich; in Hamburg = in Hamburg
kochen | | cook | | Gericht n es Gerichte | dish | lecker tasty,einfach simple,neu new | acc | in der Küche = in the \
kitchen; für die Gäste = for the guests
bestellen | | order | | Gericht n es Gerichte | dish | lecker tasty,teuer expensive,billig cheap | acc | im \
Restaurant = at the restaurant
arbeiten | | work | | Gericht n es Gerichte | court | neu new,groß big | an dat at | in Leipzig = in Leipzig; in \
Bremen = in Bremen; als Richterin = as a judge
stehen | steht stand gestanden | stand,stood | | Schlange f - Schlangen | queue | lang long,kurz short | in dat in | \
vor dem Kino = in front of the cinema; an der Kasse = at the checkout; im Supermarkt = at the supermarket
fotografieren | | photograph | | Schlange f - Schlangen | snake | giftig venomous,grün green,dick fat | \
acc | im Zoo = at the zoo; im Wald = in the forest
essen | isst aß gegessen | eat,ate,eaten | | Birne f - Birnen | pear | reif ripe,süß sweet,grün green | acc | in der \
Küche = in the kitchen; im Garten = in the garden
wechseln | | change | | Birne f - Birnen | bulb | kaputt broken,alt old | acc | in der Lampe = in the lamp; in der \
Küche = in the kitchen
hören | | hear,heard | t | Ton m es Töne | sound | laut loud,leise quiet,hoch high,tief low | acc | im Keller = in \
the cellar; im Radio = on the radio
formen | | make,made | | Ton m es - | clay | weich soft,rot red,nass wet | aus dat out of,eine Vase = a vase,einen \
Teller = a plate,eine Tasse = a cup | in der Küche = in the kitchen
steigen | steigt stieg gestiegen | climb | s | Leiter f - Leitern | ladder | hoch tall,lang long,alt old | auf acc \
up | vor dem Haus = in front of the house; im Garten = in the garden
sprechen | spricht sprach gesprochen | talk | | Leiter m s Leiter | manager | neu new,freundlich friendly,jung young \
| mit dat to | im Büro = at the office; im Laden = in the shop
schwimmen | schwimmt schwamm geschwommen | swim,swam,swum | s | See m s Seen | lake | klar clear,ruhig calm,kalt \
cold | in dat in | mit den Kindern = with the children
segeln | | sail | s | See f - - | sea | ruhig calm,offen open,stürmisch stormy | auf dat on | mit den Kindern = with \
the children
schlafen | schläft schlief geschlafen | sleep,slept | | Decke f - Decken | blanket | warm warm,weich soft,dick thick \
| unter dat under | auf dem Sofa = on the sofa; im Bett = in bed
streichen | streicht strich gestrichen | paint | | Decke f - Decken | ceiling | hoch high,weiß white | acc | im \
Zimmer = in the room; in der Küche = in the kitchen
sammeln | | collect | | Blatt n es Blätter | leaf leaves | gelb yellow,rot red,bunt colourful | acc | im Wald = in \
the forest; unter dem Baum = under the tree
schreiben | schreibt schrieb geschrieben | write,wrote,written | | Blatt n es Blätter | sheet_of_paper sheets of \
paper | leer empty,weiß white | auf acc on,den Namen = the name,die Adresse = the address,einen Satz = a sentence |
kaufen | | buy,bought | | Strauß m es Sträuße | bouquet | schön beautiful,bunt colourful,groß big | acc | für die \
Königin = for the queen; für die Lehrerin = for the teacher
füttern | | feed,fed | | Strauß m es Strauße | ostrich | hungrig hungry,groß big,alt old | acc | im Zoo = at the zoo
zu+drehen | | turn ~off | | Hahn m es Hähne | tap | kaputt broken,alt old | acc | in der Küche = in the kitchen; im \
Keller = in the cellar
füttern | | feed,fed | | Hahn m es Hähne | rooster | bunt colourful,hungrig hungry,alt old | acc | auf dem Bauernhof \
= on the farm; im Dorf = in the village
bezahlen | | pay,paid | | Steuer f - Steuern | tax | hoch high,neu new | acc |
sitzen | sitzt saß gesessen | sit,sat | | Steuer n s Steuer | wheel | | an dat at | im Auto = in the car; im Bus = \
in the bus
spielen | | play | | Flügel m s Flügel | grand_piano | alt old,schwarz black,teuer expensive | auf dat | im Theater \
= at the theatre; im Café = in the café
verbinden | verbindet verband verbunden | bandage | | Flügel m s Flügel | wing | gebrochen broken,verletzt injured | \
acc | der Ente = of the duck; des Vogels = of the bird
lesen | liest las gelesen | read,read | | Absatz m es Absätze | paragraph | lang long,kurz short,interessant \
interesting | acc | im Buch = in the book; in der Zeitung = in the newspaper
reparieren | | repair | | Absatz m es Absätze | heel | kaputt broken,hoch high | acc | am Schuh = on the shoe; am \
Stiefel = on the boot
warten | | wait | | Schalter m s Schalter | counter | neu new | an dat at | im Bahnhof = in the station; am \
Flughafen = at the airport
drücken | | press | | Schalter m s Schalter | switch | rot red,klein small | acc | an der Lampe = on the lamp; an \
der Kamera = on the camera
schießen | schießt schoss geschossen | score | p | Tor n es Tore | goal | schön beautiful,wichtig important | acc | \
im Spiel = in the game
streichen | streicht strich gestrichen | paint | | Tor n es Tore | gate | alt old,hoch high,rot red | acc | am \
Garten = by the garden; vor dem Haus = in front of the house
kaufen | | buy,bought | | Karte f - Karten | ticket | teuer expensive,billig cheap | acc | für das Konzert = for the \
concert; für das Theater = for the theatre; für den Zug = for the train
studieren | | study | | Karte f - Karten | map | alt old,groß big,neu new | acc | von Berlin = of Berlin; von \
Italien = of Italy; von Europa = of Europe
"""


@dataclass(frozen=True)
class Sense:
    """One meaning of a word and the surroundings that tell it.

    Attributes:
        verb: The verb.
        noun: The noun in this meaning.
        preposition: What joins the noun to the verb; empty if it is the direct object.
        case: The case of the noun.
        link: The English preposition with a space after it.
        objects: Direct objects to choose from where the noun follows a preposition.
        tails: What else says which meaning it is.
    """

    verb: Verb
    noun: Noun
    preposition: str
    case: int
    link: str
    objects: tuple[Pair, ...]
    tails: tuple[Pair, ...]


def _split(text: str, separator: str) -> tuple[Pair, ...]:
    pairs = [entry.split(" = ") for entry in text.split(separator) if entry]
    return tuple((de, en) for de, en in pairs)


def _parse() -> tuple[Sense, ...]:
    senses = []
    for line in _AMBIGUOUS.strip().splitlines():
        verb, parts, english, flags, noun, noun_en, adjectives, how, tails = (part.strip() for part in line.split("|"))
        head, _, objects = how.partition(",")
        preposition, case, link = "", ACC, ""
        if head != "acc":
            preposition, case_name, *words = head.split()
            case, link = (ACC if case_name == "acc" else DAT), " ".join(words) + " " if words else ""
        senses.append(
            Sense(
                make_verb(verb, parts, english, flags, "person", "sense"),
                make_noun(noun, noun_en, adjectives),
                preposition,
                case,
                link,
                _split(objects, ","),
                _split(tails, "; "),
            )
        )
    return tuple(senses)


SENSES = _parse()
