import numpy as np
from PIL import Image

from mmmaskclip.apis.images import open_image


def test_images_are_turned_as_their_camera_says(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = 6
    for name in ('a.png', 'a.webp'):
        Image.fromarray(pixels).save(tmp_path / name, exif=exif, lossless=True)
        assert (np.asarray(open_image(tmp_path / name)) == np.rot90(pixels, -1)).all(), name
        assert (np.asarray(open_image(Image.open(tmp_path / name))) == np.rot90(pixels, -1)).all(), name
