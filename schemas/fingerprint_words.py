"""Which word stands for which byte of a fingerprint?

256 easy English words, no two within one letter of each other. The order is part of the contract:
two hospitals compare these words over the telephone.
"""

from __future__ import annotations

from typing import Final

_TEXT: Final = """
    acorn amber anchor angel ankle apple apron arrow atlas autumn badge bagel baker bamboo
    banana banjo barley barn basil basket beach beaver berry bike bird bishop blanket blossom
    boat bonfire bottle boulder bowl branch bread brick bridge broom brush bubble bucket button
    cabin cactus camel candle canoe canyon carpet carrot castle cedar cello cherry chess chimney
    cinema circus clock cloud clover cobra coconut coffee comet copper coral cotton cradle
    crayon cricket crown crystal cup curtain daisy dancer desert diamond dolphin donkey door
    dragon drum duck eagle ear easel echo elbow elephant engine eraser falcon farmer feather
    fence fern fiddle finger flag flame flute forest fossil fountain fox frost garden garlic
    gate giraffe glacier glove goose grape grass guitar hammer harbor harp hazel heron hill
    honey horse ice igloo iron island ivory ivy jacket jaguar jelly jewel jungle kayak kettle
    key kitchen kite kitten koala ladder lake lamp lantern laurel lemon lettuce library lime
    linen lion lizard lobster lotus magnet mango maple marble market meadow melon mirror moon
    motor muffin museum mustard napkin needle nest night noodle north novel nut oasis ocean
    olive onion orange orbit orchid otter oven oyster paint palace panda paper pearl pebble
    pelican pencil penguin pepper piano pigeon pillow pilot pine planet plum pocket pond potato
    pumpkin puzzle quail quarry queen quilt rabbit raccoon radio rain raven ribbon river robin
    rose saddle sailor salmon sandal school seal shadow sheep shell shovel silver snow spider
    spoon squirrel star statue stone storm swan table tiger tulip turtle umbrella valley velvet
    violin walnut whale window zebra
"""
WORDS: Final[tuple[str, ...]] = tuple(_TEXT.split())
