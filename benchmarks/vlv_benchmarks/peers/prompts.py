"""What every program is given to go on from: windows of descriptions of pictures, as long as the
paper's caption embeddings."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

LENGTH = 77
"""tokens"""
STEP = 19
"""tokens from a window to the next"""
TEXTS = (
    """A wide photograph of a harbour in the early morning. In the foreground three small wooden
boats, one red and two white, are tied to a stone pier; a fisherman in a yellow coat mends a green
net beside a stack of crates. Behind them the water is calm and reflects a row of narrow houses
with blue shutters, and on the hill above the town stands a church with a round tower.""",
    """Two children sit on the steps of a brick school and share an orange. The girl on the left
wears a grey jumper and has lost a front tooth; the boy holds a paper aeroplane made of a map. A
bicycle without a front wheel is chained to the railing, and somebody has drawn a cat on the wall
with chalk. It has rained, for the playground shines and there are puddles under the swings.""",
    """This black and white picture shows a steam engine as it leaves a mountain station. Smoke
fills the upper half and hides most of the bridge. A guard with a lantern leans out of the last
carriage, and a dog runs along the platform. The sign above the clock says that the station lies
at eleven hundred metres. The snow beside the rails is dirty and has begun to melt.""",
    """Close view of a kitchen table after breakfast. There is half a loaf of dark bread on a
board, a knife with a wooden handle, a jar of honey with its spoon still inside, and a bowl of
cherries. Sunlight falls through a lace curtain and draws a pattern on the cloth. In the
background, out of focus, a woman reads a newspaper and a kettle steams on the stove.""",
    """An aerial view of a river delta at low tide. The channels branch like the veins of a leaf,
blue in the middle and brown at their edges, and between them lie banks of sand on which hundreds
of white birds stand. A single road crosses the picture from left to right on a dam. Three lorries
drive on it, close together, and each of them casts a long shadow to the east.""",
    """The workshop of a violin maker in winter. Unfinished instruments hang from a wire near the
ceiling, and shavings cover the floor. The old man at the bench holds the scroll of a cello up to
the window and looks along it with one eye closed. On the shelf behind him are glue pots, brushes,
a radio with a broken aerial and a photograph of an orchestra in a narrow silver frame.""",
    """A crowded night market in the rain. Paper lanterns, red and gold, hang between the stalls,
and steam rises from pots of soup. A young cook throws noodles into the air while his customers,
most of them under umbrellas, point at what they want. On the right a motorcycle tries to get
through; its rider carries a cage with two ducks. The neon sign above reads open until four.""",
    """Four astronauts pose for a portrait in front of a grey curtain. They wear orange suits
without helmets, and the flags on their sleeves are those of four countries. The woman in the
middle holds a small model of the station. One of the men laughs with his eyes closed, so that the
picture was perhaps not the one meant for the press. A tripod is reflected in the floor.""",
    """A fox crosses a frozen lake at dusk. Its tracks come from the forest on the far shore, turn
once around a hole that somebody cut for fishing, and lead towards the camera. The ice is blue and
full of cracks; the sky is pink near the horizon. To the left stands a hut on runners with a tin
chimney, and a lamp burns in its only window, though nobody can be seen anywhere.""",
    """The reading room of a public library, seen from the gallery. Long tables with green lamps
stand in two rows under a glass roof. Most of the seats are taken by students, but at the nearest
table an elderly man sleeps over an atlas. A librarian pushes a cart of returned books along the
shelves, and a boy on a ladder looks down at her. The clock shows ten minutes to nine.""",
    """A diagram of a bee, printed in the nineteenth century and coloured by hand. The insect is
drawn from above and from the side, and its legs are shown once more at twice the size. Thin lines
lead from each part to a number, and the numbers are explained in Latin below. The paper has turned
yellow, there is a stain in one corner, and the stamp of a museum covers the date.""",
    """Runners pass the thirty kilometre mark of a marathon on a hot afternoon. The leader, number
seventeen, pours water over his head; two others follow a few steps behind with their mouths open.
Volunteers in white shirts hold out cups, and sponges lie all over the street. In the shade of a
plane tree a brass band plays, and a small child in a pushchair waves a flag at the wrong side.""",
)  # fmt: skip


def prompts(
    encode: Callable[[Sequence[str]], Sequence[Sequence[int]]], rows: int
) -> NDArray[np.int64]:
    """Ids int64 (rows, LENGTH), no two rows the same while the texts last."""
    ids = encode([" ".join(" ".join(TEXTS).split())])[0]
    starts = max(1, (len(ids) - LENGTH) // STEP + 1)
    windows = [ids[row % starts * STEP :][:LENGTH] for row in range(rows)]
    return np.array(windows, np.int64)
