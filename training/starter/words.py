"""The words of the starter model's closed world: places, hours, styles, colours and objects.

Every table maps a class to the phrases a caption may use for it; the first phrase is the canonical
one. The judge scores classes, the captions speak phrases, so a synonym is a change of one line here.
"""

from __future__ import annotations

from dataclasses import dataclass

#: place -> phrases that follow an object ("a castle ..."); the phrase carries its preposition.
PLACES: dict[str, tuple[str, ...]] = {
    "beach": ("on a beach", "at the beach", "on the sand by the sea", "at the seaside"),
    "ocean": ("in the ocean", "on the sea", "on the open water", "in the sea"),
    "mountains": ("in the mountains", "in front of mountains", "near snowy peaks", "in the alps"),
    "hills": ("in the hills", "on green hills", "among rolling hills", "on a hill"),
    "desert": ("in the desert", "among sand dunes", "in a dry desert"),
    "snow": ("in the snow", "in winter", "in a snowy field", "on the ice"),
    "city": ("in a city", "in front of a skyline", "in the city", "downtown", "in a town"),
    "forest": ("in a forest", "in the woods", "among pine trees", "in the jungle"),
    "meadow": ("in a flower meadow", "in a meadow", "in a field of flowers", "in a garden"),
    "space": ("in outer space", "in space", "among the stars", "in front of a starry background"),
    "sky": ("in the sky", "in the air", "up in the sky", "above the clouds"),
    "underwater": ("underwater", "under water", "on the sea bed", "in a coral reef"),
    "farm": ("on a farm", "in front of a barn", "in a wheat field", "on a ranch"),
}

#: place -> noun phrases for a picture of the place alone, or before "with a castle".
LANDSCAPES: dict[str, tuple[str, ...]] = {
    "beach": ("a beach", "a sandy beach", "the seaside", "a coast"),
    "ocean": ("the ocean", "the sea", "open water"),
    "mountains": ("mountains", "a mountain landscape", "snowy peaks", "the alps"),
    "hills": ("green hills", "rolling hills", "a hill landscape"),
    "desert": ("a desert", "sand dunes", "a dry desert"),
    "snow": ("a snowy landscape", "a winter landscape", "a snowy field"),
    "city": ("a city", "a city skyline", "a skyline", "a town"),
    "forest": ("a forest", "pine woods", "the woods", "a jungle"),
    "meadow": ("a meadow", "a flower meadow", "a field of flowers", "a garden"),
    "space": ("outer space", "space", "the stars", "the universe"),
    "sky": ("the sky", "a sky", "a clear sky"),
    "underwater": ("the sea bed", "a coral reef", "the deep sea"),
    "farm": ("a farm", "a wheat field", "a barn", "a ranch"),
}

#: Hours of the day and weathers.
TIMES: dict[str, tuple[str, ...]] = {
    "day": ("by day", "on a sunny day", "in daylight", "during the day", "at noon"),
    "sunset": ("at sunset", "during sunset", "at dusk", "in the evening"),
    "night": ("at night", "by night", "under the moon", "at midnight", "in the moonlight"),
    "dawn": ("at dawn", "at sunrise", "in the early morning"),
    "storm": ("in a storm", "under grey clouds", "on a stormy day", "under a grey sky"),
    "rain": ("in the rain", "on a rainy day", "in heavy rain"),
    "fog": ("in the fog", "on a foggy day", "in the mist"),
    "purple": ("under a purple sky", "beneath a purple sky", "under a violet sky"),
}

#: time -> adjectives that may stand before a landscape ("a clear night sky").
TIME_ADJECTIVES: dict[str, str] = {
    "day": "sunny",
    "sunset": "sunset",
    "night": "night",
    "dawn": "morning",
    "storm": "stormy",
    "rain": "rainy",
    "fog": "foggy",
    "purple": "purple",
}

#: Places whose pictures have one light, which captions never name.
LIGHT_OF: dict[str, str] = {"space": "night", "underwater": "day"}


@dataclass(frozen=True)
class Style:
    """How captions ask for a style: before everything, as an adjective, behind everything."""

    prefixes: tuple[str, ...]
    adjectives: tuple[str, ...]
    suffixes: tuple[str, ...]


#: Styles really change the picture (:mod:`.styles`); the first is how everything is drawn, and may
#: go unsaid.
FLAT = "flat"
STYLES: dict[str, Style] = {
    FLAT: Style(
        ("a cartoon of ", "an illustration of "),
        ("cartoon", "flat"),
        (", flat illustration", ", cartoon", ", cartoon style", ", illustration"),
    ),
    "pixel art": Style(
        ("pixel art of ", "a pixel art picture of "),
        ("pixel art", "pixelated"),
        (", pixel art", ", pixel art style", ", 8 bit"),
    ),
    "pencil": Style(
        ("a pencil drawing of ", "a sketch of ", "a black and white drawing of "),
        ("sketched",),
        (", pencil drawing", ", sketch", ", pencil sketch"),
    ),
    "watercolour": Style(
        ("a watercolour of ", "a watercolor painting of ", "a painting of "),
        ("watercolour", "painted"),
        (", watercolour", ", watercolor", ", watercolour painting"),
    ),
}

#: colour -> sRGB, 0 to 255; an object of that colour keeps its own light and shade.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 44, 44),
    "orange": (245, 140, 30),
    "yellow": (250, 212, 50),
    "green": (60, 170, 70),
    "blue": (48, 110, 225),
    "purple": (142, 70, 200),
    "pink": (245, 130, 180),
    "white": (246, 246, 246),
    "black": (56, 56, 62),
    "golden": (226, 176, 58),
}


@dataclass(frozen=True)
class Thing:
    """An object word: its phrases, plural, and the name of its picture in an art set."""

    words: tuple[str, ...]
    icon: str
    plural: str


def _thing(words: str, icon: str = "", plural: str = "") -> Thing:
    names = tuple(words.split("|"))
    return Thing(names, icon or names[0].replace(" ", "-"), plural or _plural(names[0]))


def _plural(word: str) -> str:
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


#: Each line is of one kind; ``word|synonyms=icon/plural``, the last two where they differ from the
#: word. Icon names are those of the Iconify packaging of the Unicode emoji, but for those of
#: game-icons.
_TABLE = """
castle|scottish castle|fortress, palm tree|palm, house|cottage|home, tree|oak=deciduous-tree
dog|puppy, cat|kitten, horse|pony, cow, sheep=ewe/sheep, pig|piglet, rabbit|bunny, fox, lion
elephant, bear, penguin, owl, duck, whale=spouting-whale, octopus/octopuses, turtle|tortoise, frog
butterfly, dragon, unicorn, robot, astronaut|spaceman, wizard|mage=man-mage
dwarf=game-icons:dwarf-face/dwarves, car|automobile=automobile, bus, train|locomotive=locomotive
sailboat|boat, rocket|spaceship, balloon, tent, snowman/snowmen, ghost, cactus/cacti, mushroom
sunflower, apple=red-apple

tiger, monkey|ape, zebra, giraffe, camel, llama, kangaroo, koala, panda, wolf/wolves
raccoon, deer|stag/deer, moose|elk/moose, goat, hippo|hippopotamus=hippopotamus
rhinoceros|rhino/rhinos, mouse/mice, hamster, squirrel|chipmunk=chipmunk, hedgehog, bat
polar bear, chicken|hen, rooster
eagle|hawk, swan, flamingo, peacock, parrot
crocodile|alligator, snake, dinosaur|sauropod=sauropod, tyrannosaurus=t-rex, dolphin, shark, fish/fish
goldfish=tropical-fish/goldfish, crab, lobster, jellyfish/jellyfish, snail, bee=honeybee
ladybird|ladybug=lady-beetle, spider


pine tree|fir=evergreen-tree, christmas tree, rose, tulip, cherry blossom
clover=four-leaf-clover, maple leaf/maple leaves, potted plant
pear, lemon, banana, pineapple, strawberry, cherry=cherries/cherries, grape=grapes/grapes, watermelon
peach, tomato/tomatoes, carrot, eggplant|aubergine
broccoli, avocado
bread|loaf, cheese=cheese-wedge, hamburger|burger, pizza, hot dog, sandwich, egg
pancake=pancakes, cake=birthday-cake, cupcake, doughnut|donut, ice cream|sundae=ice-cream
popcorn, coffee=hot-beverage, teapot


bicycle|bike, motorcycle|motorbike, taxi|cab, truck|lorry=delivery-truck, tractor
ambulance, fire engine|fire truck, police car, race car=racing-car
helicopter, airplane|aeroplane|plane, ship|ocean liner=passenger-ship
flying saucer|ufo
church|chapel, pagoda=japanese-castle, temple=classical-building, hospital, school
skyscraper=office-building, ferris wheel, roller coaster, carousel=carousel-horse, fountain
statue=statue-of-liberty, volcano, island=desert-island, lighthouse=game-icons:lighthouse
windmill=game-icons:windmill, pyramid=game-icons:egyptian-pyramids, igloo=game-icons:igloo, knight=game-icons:mounted-knight
pirate ship=game-icons:galleon, mermaid=game-icons:mermaid, viking=game-icons:viking-head

moon=crescent-moon, star, planet|saturn=ringed-planet, comet, earth|globe=globe-showing-europe-africa
rainbow, cloud, snowflake, fire|flame, tornado
umbrella, chair, bed, candle, lamp|light bulb=light-bulb
clock|alarm clock=alarm-clock, key=old-key, bell, book|books=books, pencil
camera, computer|laptop=laptop, telephone|phone=telephone, telescope
guitar, violin, trumpet, drum, piano=musical-keyboard, hammer, axe, sword=dagger
crown, gem|diamond=gem-stone, trophy, gift|present=wrapped-gift, teddy bear|teddy, ball|football=soccer-ball
hat|top hat=top-hat, shoe|sneaker=running-shoe, pumpkin=jack-o-lantern
heart=red-heart, bomb, skull, alien, monster|ogre=ogre
princess, santa|santa claus=santa-claus, vampire=person-vampire, fairy|pixie=person-fairy
ninja, witch|sorceress=game-icons:witch-flight
"""


def _parse(entry: str) -> Thing:
    rest, _, plural = entry.strip().partition("/")
    words, _, icon = rest.partition("=")
    return _thing(words, icon, plural)


OBJECTS: dict[str, Thing] = {
    thing.words[0]: thing
    for thing in map(_parse, _TABLE.replace("\n", ",").split(","))
    if thing.words[0]
}
