# SPDX-License-Identifier: Apache-2.0
"""The classes of the paper's data sets: their labels in the order of TFDS, in words.

CLIP's authors put the labels into words; `in_words` gives their wording. Source of
that: the list of prompts in the repository openai/CLIP (MIT licence).
"""

PETS = tuple(
    """
    Abyssinian american_bulldog american_pit_bull_terrier basset_hound beagle Bengal
    Birman Bombay boxer British_Shorthair chihuahua Egyptian_Mau
    english_cocker_spaniel english_setter german_shorthaired great_pyrenees havanese
    japanese_chin keeshond leonberger Maine_Coon miniature_pinscher newfoundland
    Persian pomeranian pug Ragdoll Russian_Blue saint_bernard samoyed
    scottish_terrier shiba_inu Siamese Sphynx staffordshire_bull_terrier
    wheaten_terrier yorkshire_terrier
    """.split()
)
"""Labels of `oxford_iiit_pet`."""

CIFAR100 = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy
    bridge bus butterfly camel can castle caterpillar cattle chair chimpanzee clock
    cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
    forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
    lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange
    orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper
    snail snake spider squirrel streetcar sunflower sweet_pepper table tank
    telephone television tiger tractor train trout tulip turtle wardrobe whale
    willow_tree wolf woman worm
    """.split()
)
"""Fine labels of `cifar100`; TFDS numbers them until the data set is prepared."""

CALTECH101 = tuple(
    """
    accordion airplanes anchor ant background_google barrel bass beaver binocular
    bonsai brain brontosaurus buddha butterfly camera cannon car_side ceiling_fan
    cellphone chair chandelier cougar_body cougar_face crab crayfish crocodile
    crocodile_head cup dalmatian dollar_bill dolphin dragonfly electric_guitar
    elephant emu euphonium ewer faces faces_easy ferry flamingo flamingo_head
    garfield gerenuk gramophone grand_piano hawksbill headphone hedgehog helicopter
    ibis inline_skate joshua_tree kangaroo ketch lamp laptop leopards llama lobster
    lotus mandolin mayfly menorah metronome minaret motorbikes nautilus octopus
    okapi pagoda panda pigeon pizza platypus pyramid revolver rhino rooster
    saxophone schooner scissors scorpion sea_horse snoopy soccer_ball stapler
    starfish stegosaurus stop_sign strawberry sunflower tick trilobite umbrella
    watch water_lilly wheelchair wild_cat windsor_chair wrench yin_yang
    """.split()
)
"""Labels of `caltech101`: 101 and the background."""

DTD = tuple(
    """
    banded blotchy braided bubbly bumpy chequered cobwebbed cracked crosshatched
    crystalline dotted fibrous flecked freckled frilly gauzy grid grooved
    honeycombed interlaced knitted lacelike lined marbled matted meshed paisley
    perforated pitted pleated polka-dotted porous potholed scaly smeared spiralled
    sprinkled stained stratified striped studded swirly veined waffled woven
    wrinkled zigzagged
    """.split()
)
"""Labels of `dtd`."""

STL10 = tuple(
    """
    airplane bird car cat deer dog horse monkey ship truck
    """.split()
)
"""Labels of `stl10`; TFDS numbers them until the data set is prepared."""

_REWORDED = {
    "airplanes": "airplane",
    "background_google": "background",
    "car_side": "side of a car",
    "cougar_body": "body of a cougar cat",
    "cougar_face": "face of a cougar cat",
    "crocodile_head": "head of a crocodile",
    "faces": "off-center face",
    "faces_easy": "centered face",
    "flamingo_head": "head of a flamingo",
    "leopards": "leopard",
    "motorbikes": "motorbike",
    "snoopy": "snoopy (cartoon beagle)",
    "yin_yang": "yin and yang symbol",
}


def in_words(label: str) -> str:
    """Put a label into words, as CLIP's authors do.

    >>> in_words("aquarium_fish"), in_words("faces")
    ('aquarium fish', 'off-center face')
    """
    return _REWORDED.get(label, label.replace("_", " "))
