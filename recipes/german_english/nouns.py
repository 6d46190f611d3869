"""The nouns, the adjectives that go with them, and the classes that verbs choose their objects from."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import english, german

# lemma, gender, genitive ending, plural | english [plural] | adjective group | classes
# Class p: may carry a possessive; class k: a relative, who is nearly always mentioned with one; class u: uncountable.
_TABLE = """
Mann m es Männer | man men | person | person he
Lehrer m s Lehrer | teacher | person | person he p
Arzt m es Ärzte | doctor | person | person he p
Student m en Studenten | student | person | person he learner
Junge m n Jungen | boy | child | person he learner
Nachbar m n Nachbarn | neighbour | person | person he p
Kollege m n Kollegen | colleague | person | person he p
Polizist m en Polizisten | police_officer | person | person he
Bäcker m s Bäcker | baker | person | person he
Koch m s Köche | cook | person | person he
König m s Könige | king | person | person he
Schüler m s Schüler | pupil | person | person he learner
Maler m s Maler | painter | person | person he
Gärtner m s Gärtner | gardener | person | person he p
Kunde m n Kunden | customer | person | person he p
Gast m es Gäste | guest | person | person he p
Künstler m s Künstler | artist | person | person he
Bauer m n Bauern | farmer | person | person he
Chef m s Chefs | boss | person | person he p
Tourist m en Touristen | tourist | person | person he
Frau f - Frauen | woman women | person | person she
Lehrerin f - Lehrerinnen | teacher | person | person she p
Ärztin f - Ärztinnen | doctor | person | person she p
Studentin f - Studentinnen | student | person | person she learner
Nachbarin f - Nachbarinnen | neighbour | person | person she p
Kellnerin f - Kellnerinnen | waitress | person | person she
Sängerin f - Sängerinnen | singer | person | person she
Richterin f - Richterinnen | judge | person | person she
Königin f - Königinnen | queen | person | person she
Kind n es Kinder | child children | child | person learner
Mädchen n s Mädchen | girl | child | person learner
Vater m s Väter | father | elder | person he k single
Bruder m s Brüder | brother | person | person he k
Onkel m s Onkel | uncle | elder | person he k
Sohn m es Söhne | son | person | person he k learner
Großvater m s Großväter | grandfather | elder | person he k single
Mutter f - Mütter | mother | elder | person she k single
Schwester f - Schwestern | sister | person | person she k
Tante f - Tanten | aunt | elder | person she k
Tochter f - Töchter | daughter | person | person she k learner
Großmutter f - Großmütter | grandmother | elder | person she k single
Hund m es Hunde | dog | animal | animal pet chaser p tame
Katze f - Katzen | cat | animal | animal pet chaser p tame
Pferd n es Pferde | horse | animal | animal pet p
Vogel m s Vögel | bird | animal | animal prey
Maus f - Mäuse | mouse mice | animal | animal prey
Kuh f - Kühe | cow | animal | animal farm
Schaf n es Schafe | sheep sheep | animal | animal farm
Schwein n es Schweine | pig | animal | animal farm
Ente f - Enten | duck | animal | animal farm prey
Gans f - Gänse | goose geese | animal | animal farm prey
Wolf m es Wölfe | wolf wolves | animal | animal wild chaser
Bär m en Bären | bear | animal | animal wild
Löwe m n Löwen | lion | animal | animal wild chaser
Hase m n Hasen | hare | animal | animal prey
Ziege f - Ziegen | goat | animal | animal farm
Esel m s Esel | donkey | animal | animal farm
Affe m n Affen | monkey | animal | animal wild
Fuchs m es Füchse | fox | animal | animal wild chaser
Kaninchen n s Kaninchen | rabbit | animal | animal pet prey p
Apfel m s Äpfel | apple | fruit | food goods
Kuchen m s Kuchen | cake | food | food goods baked
Ei n es Eier | egg | food | food goods boiled
Banane f - Bananen | banana | fruit | food goods
Kartoffel f - Kartoffeln | potato potatoes | food | food goods boiled
Tomate f - Tomaten | tomato tomatoes | fruit | food goods
Brötchen n s Brötchen | roll | food | food goods baked
Kirsche f - Kirschen | cherry | fruit | food goods
Orange f - Orangen | orange | fruit | food goods
Erdbeere f - Erdbeeren | strawberry | fruit | food goods
Suppe f - Suppen | soup | soup | food boiled
Wurst f - Würste | sausage | food | food goods boiled
Salat m s Salate | salad | food | food goods
Keks m es Kekse | biscuit | food | food goods baked
Milch f - - | milk | drink | drink u
Wasser n s - | water | drink | drink u
Tee m s - | tea | drink | drink u
Kaffee m s - | coffee | drink | drink u
Bier n es - | beer | drink | drink u
Wein m es - | wine | drink | drink u
Saft m es - | juice | drink | drink u
Limonade f - - | lemonade | drink | drink u
Buch n es Bücher | book | text | text goods gift flat p written
Brief m es Briefe | letter | text | text written flat sent p
Zeitung f - Zeitungen | newspaper | paper | text goods flat p
Roman m s Romane | novel | text | text written p
Gedicht n es Gedichte | poem | text | text written p
Artikel m s Artikel | article | text | text written p
Geschichte f - Geschichten | story | text | text written p
Heft n es Hefte | notebook | thing | goods flat p portable
Ball m es Bälle | ball | thing | goods gift portable flat p
Tasche f - Taschen | bag | thing | goods gift portable upright p carried
Koffer m s Koffer | suitcase | thing | goods portable upright p carried openable
Schlüssel m s Schlüssel | key | thing | portable flat p
Lampe f - Lampen | lamp | thing | goods gift upright switched fixed p
Stuhl m es Stühle | chair | thing | goods carried fixed seat p
Tisch m es Tische | table | thing | goods carried fixed base p
Sofa n s Sofas | sofa | thing | goods seat p
Bett n es Betten | bed | thing | goods base p
Schrank m es Schränke | cupboard | thing | goods fixed openable p
Kiste f - Kisten | box | thing | upright carried openable portable
Korb m es Körbe | basket | thing | goods upright carried portable p
Paket n es Pakete | parcel | thing | sent carried flat openable portable
Geschenk n es Geschenke | present | thing | flat portable p sent openable
Hut m es Hüte | hat | clothes | clothes goods gift flat p portable
Mantel m s Mäntel | coat | clothes | clothes goods gift flat p portable
Jacke f - Jacken | jacket | clothes | clothes goods gift flat p portable
Hemd n es Hemden | shirt | clothes | clothes goods flat p portable
Kleid n es Kleider | dress | clothes | goods gift
Pullover m s Pullover | jumper | clothes | clothes goods gift flat p portable
Schal m s Schals | scarf scarves | clothes | clothes goods gift flat p portable
Rock m es Röcke | skirt | clothes | goods gift
Fahrrad n es Fahrräder | bicycle | thing | goods gift fixed vehicle p
Auto n s Autos | car | thing | goods fixed vehicle p
Messer n s Messer | knife knives | thing | goods flat portable p
Löffel m s Löffel | spoon | thing | goods flat portable p
Glas n es Gläser | glass | thing | goods upright portable p
Tasse f - Tassen | cup | thing | goods upright portable gift p
Teller m s Teller | plate | thing | goods flat portable p
Flasche f - Flaschen | bottle | thing | goods upright portable p
Vase f - Vasen | vase | thing | goods upright portable gift p
Bild n es Bilder | picture | thing | gift painted hung flat p
Foto n s Fotos | photo | thing | flat hung sent p
Handy n s Handys | phone | thing | goods gift flat portable switched fixed p
Computer m s Computer | computer | thing | goods switched fixed p
Kamera f - Kameras | camera | thing | goods gift portable flat fixed p
Fernseher m s Fernseher | television | thing | goods switched fixed p
Radio n s Radios | radio | thing | goods switched fixed p upright
Regenschirm m s Regenschirme | umbrella | thing | goods portable flat p
Spiegel m s Spiegel | mirror | thing | goods hung
Teppich m s Teppiche | carpet | thing | goods
Blume f - Blumen | flower | plant | goods gift plant painted
Rose f - Rosen | rose | plant | goods gift plant painted
Baum m es Bäume | tree | plant | plant painted
Gitarre f - Gitarren | guitar | thing | goods gift fixed played p
Klavier n s Klaviere | piano | thing | goods fixed played p
Geige f - Geigen | violin | thing | goods gift fixed played p
Tür f - Türen | door | door | openable door
Fenster n s Fenster | window | door | openable door
Tor n es Tore | gate | door | openable door
Haus n es Häuser | house | place | built painted sight p
Museum n s Museen | museum | place | built sight
Brücke f - Brücken | bridge | place | built painted sight
Turm m es Türme | tower | place | built painted sight
Kirche f - Kirchen | church | place | built painted sight
Hotel n s Hotels | hotel | place | built
Zimmer n s Zimmer | room | place | room p
Küche f - Küchen | kitchen | place | room p
Keller m s Keller | cellar | room0 | room p
Garten m s Gärten | garden | place | painted p
Regel f - Regeln | rule | idea | lesson
Frage f - Fragen | question | idea | lesson
Aufgabe f - Aufgaben | task | idea | lesson
Film m es Filme | film | text | seen
Konzert n es Konzerte | concert | event | event
Kurs m es Kurse | course | event | event joined
Ausflug m s Ausflüge | trip | event | event joined
Spiel n es Spiele | game | event | event joined
Fest n es Feste | party | event | event
Zug m es Züge | train | moving | awaited
Bus m es Busse | bus | moving | awaited
Geld n es - | money | none | u money
"""

_ADJECTIVES = {
    "person": (
        "alt old,jung young,freundlich friendly,müde tired,klug clever,groß tall,reich rich,arm poor,höflich polite,"
        "fleißig hard-working,faul lazy,nett nice,glücklich happy,traurig sad,berühmt famous"
    ),
    "child": "klein little,groß tall,freundlich friendly,klug clever,müde tired,arm poor,fleißig hard-working",
    "elder": "alt old,freundlich friendly,müde tired,klug clever,groß tall,nett nice,glücklich happy,höflich polite",
    "paper": "alt old,neu new,interessant interesting,langweilig boring",
    "animal": (
        "alt old,jung young,groß big,klein small,schwarz black,weiß white,braun brown,hungrig hungry,müde tired,"
        "schnell fast,schön beautiful,dick fat"
    ),
    "fruit": "süß sweet,reif ripe,frisch fresh,groß big,klein small,lecker tasty,teuer expensive",
    "food": "frisch fresh,lecker tasty,warm warm,klein small,billig cheap",
    "soup": "lecker tasty,heiß hot",
    "drink": "kalt cold,warm warm,frisch fresh,gut good,teuer expensive,billig cheap",
    "text": "interessant interesting,spannend exciting,langweilig boring,lang long,kurz short,neu new,alt old",
    "thing": (
        "groß big,klein small,neu new,alt old,schön beautiful,teuer expensive,billig cheap,rot red,blau blue,"
        "grün green,gelb yellow,schwarz black,weiß white,schwer heavy,modern modern,hässlich ugly"
    ),
    "clothes": (
        "warm warm,neu new,alt old,schön beautiful,teuer expensive,billig cheap,rot red,blau blue,grün green,"
        "elegant elegant,dunkel dark,bunt colourful"
    ),
    "plant": "schön beautiful,klein small,groß big",
    "door": "groß big,klein small,schwer heavy,alt old,neu new,grün green,blau blue",
    "place": "groß big,klein small,alt old,neu new,schön beautiful,modern modern,ruhig quiet,dunkel dark",
    "room0": "groß big,klein small,dunkel dark,feucht damp,kalt cold",
    "idea": "schwierig difficult,einfach simple,wichtig important,neu new,interessant interesting",
    "event": "interessant interesting,lang long,kurz short,schön nice,langweilig boring",
    "moving": "neu new,alt old,voll full",
    "none": "",
}


@dataclass(frozen=True, eq=False)
class Noun:
    """A noun of both languages with its forms by number and case."""

    lemma: str
    gender: int
    german: tuple[tuple[str, ...], tuple[str, ...]]
    english: tuple[str, str]
    adjectives: tuple[tuple[str, str], ...]
    classes: tuple[str, ...] = field(default=())

    def is_a(self, name: str) -> bool:
        """Return whether the noun belongs to a class."""
        return name in self.classes


def parse_adjectives(text: str) -> tuple[tuple[str, str], ...]:
    """Return (German, English) pairs of comma-separated entries."""
    pairs = [entry.split(" ", 1) for entry in text.split(",") if entry]
    return tuple((german_word, english_word) for german_word, english_word in pairs)


def make_noun(german_part: str, english_part: str, adjectives: str = "", classes: str = "") -> Noun:
    """Build a noun from the parts of a table line."""
    lemma, letter, genitive, plural = german_part.split()
    gender = "mfn".index(letter)
    forms = german.build_noun_forms(lemma, gender, genitive.strip("-"), plural)
    singular, _, plural_english = english_part.partition(" ")
    singular = singular.replace("_", " ")
    both = (singular, plural_english or english.pluralize(singular))
    return Noun(lemma, gender, forms, both, parse_adjectives(adjectives), tuple(classes.split()))


def _parse_table() -> dict[str, Noun]:
    nouns = {}
    for line in _TABLE.strip().splitlines():
        german_part, english_part, group, classes = (part.strip() for part in line.split("|"))
        noun = make_noun(german_part, english_part, _ADJECTIVES[group], f"{classes} :{group}")
        nouns[noun.lemma] = noun
    return nouns


NOUNS = _parse_table()


def select(names: str) -> tuple[Noun, ...]:
    """Return the nouns of any of the classes named (a:b asks for both classes), or of that lemma, in table order."""
    wanted = [name.split(":") for name in names.split()]

    def fits(noun: Noun) -> bool:
        return any(noun.lemma == name[0] or all(part in noun.classes for part in name) for name in wanted)

    return tuple(noun for noun in NOUNS.values() if fits(noun))
