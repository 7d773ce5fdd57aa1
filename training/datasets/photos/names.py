"""Clean the class names of data sets of photographs: one everyday spelling for one thing, in every set.

`clean_name` joins spellings ("refridgerator", "tvmonitor", "diningtable"), splits underscores and hyphens, and drops
what cannot be asked for ("otherprop"). Plurals that data sets use as class names ("books", "clothes", "shelves",
"blinds") stay. `also` lists what else is true of a thing: a dining table is also a table. Synonyms are not here: two
words for the same thing ("sofa", "couch") are both right, and a sofa keeps the name its data set gave it.
"""

from __future__ import annotations

import re

# Names that say nothing of what is seen: rest classes, reflections, and figures that only a fan knows.
UNUSABLE = frozenset({
    "null", "void", "unknown", "unlabelled", "unlabeled", "background", "background google", "other", "otherprop",
    "otherfurniture", "otherstructure", "other prop", "other furniture", "other structure", "door window reflection",
    "door facing trimreflection", "doorreflection", "light switchreflection", "reflection of window shutters",
    "storage space", "case", "machine", "label", "accessories", "yin yang", "snoopy", "garfield", "web site", "admiral",
    "monarch", "ringlet", "isopod", "nipple", "slot", "switch", "hook", "knot", "pick", "plane", "rule", "reel", "nail",
    "wing", "paddle", "bow", "brass", "chest", "chime", "stole", "tick", "upright", "bubble", "velvet", "screen",
    "wreck", "mortar", "file", "organ", "muzzle", "capuchin", "titi", "eft", "patas", "indri", "redbone", "clumber",
    "kelpie", "cornet", "sax", "vault", "maze", "menu", "home theater", "space bar", "ear", "drumstick",
    "book jacket", "packet", "grille", "coil", "brain", "hip", "bass", "stand", "bar", "stage", "crane", "boxer",
    "racer", "drake",
})  # fmt: skip

# What a data set writes (after lower case, with spaces) -> the everyday spelling.
SPELLINGS = {
    # indoor scenes
    "refridgerator": "refrigerator", "tv": "television", "tv monitor": "television", "tvmonitor": "television",
    "night stand": "nightstand", "door way": "doorway", "door way arch": "archway", "scissor": "scissors",
    "hair brush": "hairbrush", "eye glasses": "glasses", "head phone": "headphones", "head phones": "headphones",
    "headphone": "headphones", "earphones": "headphones", "excercise ball": "exercise ball",
    "excercise equipment": "exercise equipment", "excercise machine": "exercise machine", "deoderant": "deodorant",
    "kichen towel": "kitchen towel", "ladel": "ladle", "trolly": "trolley", "mellon": "melon",
    "watermellon": "watermelon", "suger jar": "sugar jar", "collander": "colander", "cannister": "canister",
    "tea cannister": "tea canister", "vasoline": "vaseline", "storage shelvesbooks": "storage shelves",
    "stacked bins boxes": "stacked boxes", "fruitplate": "fruit plate", "toyhouse": "toy house",
    "doll house": "dollhouse", "toys shelf": "toy shelf", "toys rack": "toy rack", "toys box": "toy box",
    "toys basket": "toy basket", "toy trucks": "toy truck", "walkietalkie": "walkie talkie", "wreathe": "wreath",
    "scenary": "scenery", "desser": "dresser", "mailshelf": "mail shelf", "hoola hoop": "hula hoop",
    "ping pong racquet": "ping pong racket", "yarmulka": "yarmulke", "mezuza": "mezuzah", "bookrack": "book rack",
    "electrical kettle": "electric kettle", "nailclipper": "nail clipper", "glass ware": "glassware",
    "console controller": "game controller", "manilla envelope": "manila envelope", "mantle": "mantel",
    "surge protect": "surge protector", "mens suit": "suit", "mens tie": "tie", "leg of a girl": "leg",
    "eyeball plastic ball": "ball", "orange plastic cap": "plastic cap", "shopping baskets": "shopping basket",
    "box of ziplock bags": "box of bags", "roll of toilet paper": "toilet paper", "tissue roll": "toilet paper",
    "roll of paper towels": "paper towel", "cd disc": "cd", "fruit platter": "fruit plate", "photo": "photograph",
    "sculpture of the chrysler building": "sculpture", "sculpture of the eiffel tower": "sculpture",
    "sculpture of the empire state building": "sculpture", "bottle of comet": "bottle", "garbage bin": "trash bin",
    "bottle of listerine": "bottle", "bottle of liquid": "bottle", "coke bottle": "soda bottle", "cat cage": "pet cage",
    "dog cage": "pet cage", "magic 8ball": "ball", "power surge": "power strip", "charger and wire": "charger",
    "bread loaf": "bread", "lid of jar": "lid", "tub of tupperware": "tupperware", "orange juicer": "juicer",
    "clothing washer": "washing machine", "clothing dryer": "clothes dryer", "clothing iron": "iron",
    "clothing hanger": "hanger", "coat hanger": "hanger", "hangers": "hanger",
    "wall hand sanitizer dispenser": "hand sanitizer dispenser", "bulb": "light bulb",
    # VOC, COCO, CamVid, clothes
    "aeroplane": "airplane", "diningtable": "dining table", "pottedplant": "potted plant", "motorbike": "motorcycle",
    "hair drier": "hair dryer", "signsymbol": "sign", "sign symbol": "sign", "column pole": "pole",
    "flats": "flat shoes", "heels": "high heels", "wedges": "wedge shoes", "intimate": "lingerie",
    # one name for a whole image
    "airplanes": "airplane", "motorbikes": "motorcycle", "faces": "face", "faces easy": "face", "leopards": "leopard",
    "car side": "car", "cougar face": "cougar", "cougar body": "cougar", "crocodile head": "crocodile",
    "flamingo head": "flamingo", "cellphone": "cell phone", "cellular telephone": "cell phone",
    "hawksbill": "sea turtle", "water lilly": "water lily", "sea horse": "seahorse", "binocular": "binoculars",
    "rhino": "rhinoceros", "wild cat": "wildcat", "tabby": "tabby cat", "ashcan": "trash bin", "ice bear": "polar bear",
    "giant panda": "panda", "lesser panda": "red panda", "cab": "taxi", "beach wagon": "station wagon",
    "studio couch": "sofa bed", "four poster": "four-poster bed", "ballplayer": "baseball player",
    "hand blower": "hair dryer", "sunglass": "sunglasses", "jean": "jeans", "toilet tissue": "toilet paper",
    "loudspeaker": "speaker", "washer": "washing machine", "ice lolly": "popsicle", "head cabbage": "cabbage",
    "hotdog": "hot dog", "hot dogs": "hot dog", "french loaf": "baguette", "granny smith": "green apple",
    "teddy": "teddy bear", "pajama": "pajamas", "bannister": "banister", "caldron": "cauldron",
    "coffeepot": "coffee pot", "tea pot": "teapot", "tea kettle": "kettle", "pop bottle": "soda bottle",
    "motor scooter": "scooter", "alp": "mountain", "lakeside": "lake", "seashore": "beach", "cock": "rooster",
    "hog": "pig", "sorrel": "sorrel horse", "bicycle built for two": "tandem bicycle",
    "black and tan coonhound": "coonhound", "computer keyboard": "keyboard", "typewriter keyboard": "typewriter",
    "rubber eraser": "eraser", "sulphur crested cockatoo": "cockatoo", "maillot": "swimsuit",
    "dial telephone": "telephone", "hand held computer": "handheld computer", "jinrikisha": "rickshaw",
    "carpenter's kit": "toolbox", "electric fan": "fan", "moving van": "moving truck",
    "european fire salamander": "salamander", "madagascar cat": "lemur", "food wrapped on a tray": "food",
    "african grey": "grey parrot", "angora": "angora rabbit", "model t": "vintage car", "english springer": "spaniel",
    "brittany spaniel": "spaniel", "boston bull": "boston terrier", "pembroke": "corgi", "lhasa": "lhasa apso",
    "arabian camel": "camel", "tusker": "elephant", "fire engine": "fire truck", "golfcart": "golf cart",
    "gasmask": "gas mask", "saltshaker": "salt shaker", "lampshade": "lamp shade", "brassiere": "bra",
    "wash basin": "washbasin", "potter's wheel": "pottery wheel",
}  # fmt: skip

# Hyphens that belong to the word.
HYPHENATED = frozenset({"t-shirt", "jack-o'-lantern", "go-kart", "four-poster bed", "x-ray"})

# What else is true of a thing, nearest first. Only what holds wherever the name is used.
GENERAL = {
    "pedestrian": ("person",), "bicyclist": ("cyclist", "person"), "rider": ("person",), "man": ("person",),
    "woman": ("person",), "baseball player": ("person",), "scuba diver": ("person",), "groom": ("person",),
    "face": ("person",), "potted plant": ("plant",), "ornamental plant": ("plant",), "bonsai": ("plant",),
    "joshua tree": ("tree",), "sunflower": ("flower",), "lotus": ("flower",), "water lily": ("flower",),
    "daisy": ("flower",), "taxi": ("car",), "station wagon": ("car",), "convertible": ("car",), "limousine": ("car",),
    "jeep": ("car",), "minivan": ("van", "car"), "vintage car": ("car",), "airliner": ("airplane",),
    "warplane": ("airplane",), "fire truck": ("truck",), "moving truck": ("truck",), "pickup": ("truck",),
    "minibus": ("bus",), "trolleybus": ("bus",), "bullet train": ("train",), "steam locomotive": ("train",),
    "electric locomotive": ("train",), "freight car": ("train",), "passenger car": ("train",), "streetcar": ("tram",),
    "moped": ("motorcycle",), "scooter": ("motorcycle",), "mountain bike": ("bicycle",), "ketch": ("sailboat", "boat"),
    "schooner": ("sailboat", "boat"), "yawl": ("sailboat", "boat"), "catamaran": ("sailboat", "boat"),
    "trimaran": ("sailboat", "boat"), "ferry": ("boat",), "canoe": ("boat",), "gondola": ("boat",),
    "speedboat": ("boat",), "lifeboat": ("boat",), "fireboat": ("boat",), "liner": ("ship",),
    "container ship": ("ship",), "dalmatian": ("dog",), "rooster": ("bird",), "hen": ("bird",), "pigeon": ("bird",),
    "flamingo": ("bird",), "emu": ("bird",), "ibis": ("bird",), "peacock": ("bird",), "ostrich": ("bird",),
    "sea turtle": ("turtle",), "sorrel horse": ("horse",), "ram": ("sheep",), "bighorn": ("sheep",), "ox": ("cow",),
    "tabby cat": ("cat",), "angora rabbit": ("rabbit",), "hare": ("rabbit",), "wood rabbit": ("rabbit",),
    "corgi": ("dog",), "spaniel": ("dog",), "green apple": ("apple",), "baguette": ("bread",), "bagel": ("bread",),
    "armchair": ("chair",), "throne": ("chair",), "plastic chair": ("chair",), "stacked chairs": ("chair",),
    "sofa bed": ("sofa",), "wardrobe": ("cabinet",), "china cabinet": ("cabinet",), "book": ("books",),
    "books": ("book",), "iphone": ("cell phone",), "ipad": ("tablet",), "laptop": ("computer",),
    "desktop computer": ("computer",), "chalkboard": ("blackboard",), "floor mat": ("mat",), "doormat": ("mat",),
    "yoga mat": ("mat",), "rolled up rug": ("rug",), "rolled carpet": ("carpet",), "chandelier": ("lamp",),
    "coffee mug": ("mug",), "photograph": ("picture",), "picture of fish": ("picture",), "sneakers": ("shoes",),
    "loafers": ("shoes",), "flat shoes": ("shoes",), "high heels": ("shoes",), "pumps": ("high heels", "shoes"),
    "wedge shoes": ("shoes",), "sandals": ("shoes",), "clogs": ("shoes",), "boots": ("shoes",), "jeans": ("pants",),
    "blazer": ("jacket",), "hoodie": ("sweatshirt",), "cardigan": ("sweater",), "sunglasses": ("glasses",),
    "purse": ("bag",), "blouse": ("shirt",), "t-shirt": ("shirt",), "revolver": ("gun",),
    "assault rifle": ("rifle", "gun"), "rifle": ("gun",), "grand piano": ("piano",), "puffer": ("fish",),
    "goldfish": ("fish",), "lionfish": ("fish",), "anemone fish": ("fish",), "washbasin": ("sink",),
    "stuffed animal": ("toy",), "doll": ("toy",), "soft toy": ("toy",), "lego": ("toy",), "teddy bear": ("toy",),
    "cheeseburger": ("hamburger",), "tandem bicycle": ("bicycle",), "swimsuit": ("swimwear",), "bikini": ("swimwear",),
    "street sign": ("sign",), "stop sign": ("sign",), "exit sign": ("sign",), "chiffonier": ("dresser",),
    "bookcase": ("bookshelf",), "storage shelves": ("shelves",), "filing shelves": ("shelves",),
    "spot light": ("light",),
}  # fmt: skip

# A name of several words that ends in one of these is one of these: "coffee table", "soccer ball", "snow leopard".
HEADS = frozenset({
    "table", "chair", "lamp", "bottle", "box", "bag", "basket", "bowl", "curtain", "guitar", "pillow", "tray", "clock",
    "bicycle", "bus", "car", "truck", "cat", "dog", "bear", "bird", "crab", "snake", "owl", "spider", "monkey",
    "turtle", "fox", "wolf", "whale", "shark", "lizard", "frog", "leopard", "elephant", "crocodile", "fence", "bridge",
    "hat", "tie", "shoe", "boot", "knife", "spoon", "ball", "camera", "door", "bench", "sofa", "fan", "towel", "bucket",
    "horse", "goose", "swan", "stork", "penguin", "salamander", "squash", "bed", "plant", "flower", "tree", "piano",
    "drum", "rack", "coat", "van", "jar", "doll", "keyboard", "dispenser", "cabinet", "terrier", "retriever", "spaniel",
})  # fmt: skip

# Exceptions to the rule of heads. What is a toy, a model or a picture of a thing is not that thing.
NOT_HEADS = frozenset({
    "hot dog", "teddy bear", "paper towel", "freight car", "passenger car", "sleeping bag", "bean bag", "punching bag",
})  # fmt: skip
NOT_REAL = re.compile(r"^(toy|model|doll|ceramic|piggy)\b|^(cat|dog|pet|flower|window) (bed|box|house)$")
BREEDS = frozenset({"terrier", "retriever", "spaniel"})


def clean_name(raw: str) -> str | None:
    """Write a data set's class name in its everyday spelling.

    Args:
        raw: a class name as the data set writes it, such as "tvmonitor", "car_side" or "refridgerator".

    Returns:
        The name in lower case with single spaces, such as "television", "car" or "refrigerator"; None where the name
        says nothing of what is seen, such as "otherprop".
    """
    name = " ".join(raw.replace("_", " ").lower().split())
    if name not in HYPHENATED:
        name = " ".join(name.replace("-", " ").split())
    name = SPELLINGS.get(name, name)
    return None if not name or name in UNUSABLE else name


def also(name: str) -> tuple[str, ...]:
    """List what else is true of a thing with a cleaned name, nearest first: "dining table" is also "table".

    Args:
        name: as `clean_name` returns it.

    Returns:
        More general names without the name itself; empty where none is known.
    """
    found = list(GENERAL.get(name, ()))
    head = name.rsplit(" ", 1)[-1]
    if head != name and head in HEADS and name not in NOT_HEADS and not NOT_REAL.search(name):
        found.append(head)
        found += ["dog"] if head in BREEDS else GENERAL.get(head, ())
    return tuple(dict.fromkeys(found))


def true_names(raw: str) -> tuple[str, ...]:
    """Return the cleaned name and what else is true of it, most specific first; empty where it is unusable."""
    name = clean_name(raw)
    return () if name is None else (name, *also(name))
