"""Makes the reference pictures of the tests with Pillow and NumPy.

    python3 make.py

pil-WxH.png                   a picture
pil-WxH-CROP-R.png            it, prepared for a network of resolution R
pil-KIND.jpg, pil-KIND.png    a JPEG, and the pixels Pillow decodes from it
pil-KIND.webp, pil-webp-KIND.png  likewise a WebP
odd-KIND.png                  a PNG as cameras write it, of the pixels of pil-444.png
"""
import math
import struct
import zlib

import numpy as np
from PIL import Image

rng = np.random.default_rng(7)


def picture(w, h):
    """A smooth picture with edges and a little noise."""
    y, x = np.mgrid[0:h, 0:w].astype(float)
    planes = [
        128 + 100 * np.sin(x / 5 + y / 17),
        128 + 100 * np.cos(y / 7 - x / 23),
        255 * ((x // 8 + y // 6) % 2),
    ]
    pixels = np.stack(planes, -1) + rng.normal(0, 6, (h, w, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def centre(image, w, h):
    """torchvision.transforms.functional.center_crop"""
    left = int(round((image.width - w) / 2.0))
    top = int(round((image.height - h) / 2.0))
    return image.crop((left, top, left + w, top + h))


def prepared(image, crop, r):
    if crop == "none":
        side = min(image.size)
        return centre(image, side, side).resize((r, r), Image.BILINEAR)
    short = math.ceil(r / float(crop))
    w, h = image.size
    if w <= h:
        size = (short, int(short * h / w))
    else:
        size = (int(short * w / h), short)
    return centre(image.resize(size, Image.BILINEAR), r, r)


for w, h in [(32, 32), (61, 48), (47, 90), (150, 101), (1, 1), (1, 40), (40, 2)]:
    image = picture(w, h)
    image.save(f"pil-{w}x{h}.png")
    for crop, r in [("none", 24), ("none", 33), ("0.875", 32), ("0.875", 25)]:
        prepared(image, crop, r).save(f"pil-{w}x{h}-{crop}-{r}.png")

def turned():
    """An EXIF block that says: turn by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


photo = picture(75, 53)
kinds = {
    "444": (photo, {"subsampling": "4:4:4"}),
    "422": (photo, {"subsampling": "4:2:2"}),
    "420": (photo, {"subsampling": "4:2:0"}),
    "progressive": (photo, {"subsampling": "4:4:4", "progressive": True}),
    "gray": (photo.convert("L"), {}),
    "cmyk": (photo.convert("CMYK"), {}),
    "rgb": (photo, {"keep_rgb": True, "subsampling": "4:4:4"}),
    "exif6": (photo, {"subsampling": "4:4:4", "exif": turned()}),
}
for kind, (image, options) in kinds.items():
    image.save(f"pil-{kind}.jpg", quality=90, **options)
    Image.open(f"pil-{kind}.jpg").convert("RGB").save(f"pil-{kind}.png")


def faded(image):
    """A picture with alpha that falls from left to right."""
    ramp = np.linspace(255, 0, image.width).astype(np.uint8)
    alpha = Image.fromarray(np.tile(ramp, (image.height, 1)))
    image = image.convert("RGBA")
    image.putalpha(alpha)
    return image


webps = {
    "lossy": (photo, {"quality": 80}),
    "lossless": (photo, {"lossless": True}),
    "alpha": (faded(photo), {"quality": 80}),
    "extras": (photo, {"quality": 50, "icc_profile": b"x" * 301, "exif": turned().tobytes()}),
}
for kind, (image, options) in webps.items():
    image.save(f"pil-{kind}.webp", **options)
    Image.open(f"pil-{kind}.webp").convert("RGB").save(f"pil-webp-{kind}.png")
photo.save("pil-animated.webp", save_all=True, append_images=[photo.rotate(180)], duration=40)


def chunk(kind, data):
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def png(image, surplus=b"", after=b"", end=True):
    """A PNG of one chunk of pixel data, after which nothing need follow."""
    w, h = image.size
    rows = b"".join(b"\0" + image.crop((0, y, w, y + 1)).tobytes() for y in range(h))
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0))
    out += chunk(b"IDAT", zlib.compress(rows + surplus, 9) + after)
    return out + chunk(b"IEND", b"") if end else out


row = bytes(1 + 3 * photo.width)
still = Image.open("pil-444.png")
for kind, options in {
    "extra-row": {"surplus": row},
    "extra-byte": {"after": b"x"},
    "no-iend": {"end": False},
}.items():
    with open(f"odd-{kind}.png", "wb") as f:
        f.write(png(still, **options))
