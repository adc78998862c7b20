"""Makes JPEGs as cameras in the field send them, and Pillow's verdicts on damage.

    python3 field.py

field-KIND.jpg, field-KIND.png   a JPEG, and the pixels Pillow decodes from it
panics.jpg                       inks with shared chroma, which the decoder cannot
turn-N.jpg                       one picture, stored so that EXIF's orientation N
                                 makes it upright; turn-1.jpg is stored upright
verdicts.json                    by file: the least bytes of its beginning that
                                 Pillow reads; and whether it reads the file with
                                 one bit flipped, a letter for each flip: bit
                                 k % 8 of the byte k * 7919 % size, from byte 2 on
"""
import glob
import io
import json

import numpy as np
from PIL import Image, ImageOps

rng = np.random.default_rng(11)
FLIPS = 400


def picture(w, h, planes=3):
    """A smooth picture with edges and a little noise."""
    y, x = np.mgrid[0:h, 0:w].astype(float)
    all = [
        128 + 90 * np.sin(x / 6 + y / 13),
        120 + 80 * np.cos(y / 9 - x / 19),
        60 + 140 * ((x // 16 + y // 16) % 2),
        200 + 40 * np.sin(x / 11),
    ][:planes]
    pixels = np.stack(all, -1) + rng.normal(0, 4, (h, w, planes))
    return pixels.clip(0, 255).astype(np.uint8)


def saved(image, **options):
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


def segments(jpeg):
    """The segments up to the first scan, which comes last with all that follows."""
    at, all = 2, []
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2:at + 4], "big")
        all.append(jpeg[at:end])
        at = end
    return all + [jpeg[at:]]


STANDARD = [s for s in segments(saved(Image.fromarray(picture(16, 16)), quality=85)) if s[1] == 0xC4]
ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, (i // 8 if (i // 8 + i % 8) % 2 else i % 8)))
DCT = np.array([[np.sqrt((1 if k == 0 else 2) / 8) * np.cos((2 * n + 1) * k * np.pi / 16) for n in range(8)] for k in range(8)])
STEP = 6  # quantization of every coefficient


def codes():
    """Symbol to (code, length), for DC and AC, of the standard's luminance."""
    found = {}
    for s in STANDARD:
        if s[4] & 15 == 0:
            code, at, table = 0, 21, {}
            for length in range(1, 17):
                for _ in range(s[4 + length]):
                    table[s[at]] = (code, length)
                    code, at = code + 1, at + 1
                code <<= 1
            found[s[4] >> 4] = table
    return found


CODES = codes()


class Bits:
    def __init__(self):
        self.bits = ""

    def put(self, value, length):
        if length:
            self.bits += format(value, f"0{length}b")

    def data(self):
        bits = self.bits + "1" * (-len(self.bits) % 8)
        return bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8)).replace(b"\xff", b"\xff\x00")


def number(bits, symbol_of, value, table):
    size = int(abs(value)).bit_length()
    bits.put(*table[symbol_of(size)])
    bits.put(value if value >= 0 else value + (1 << size) - 1, size)


def put_block(bits, block, before):
    number(bits, lambda size: size, int(block[0]) - before, CODES[0])
    run = 0
    for v in block[1:]:
        if v == 0:
            run += 1
            continue
        while run > 15:
            bits.put(*CODES[1][0xF0])
            run -= 16
        number(bits, lambda size: run << 4 | size, int(v), CODES[1])
        run = 0
    if run:
        bits.put(*CODES[1][0])
    return int(block[0])


def blocks_of(plane, h, v, hmax, vmax, mcus):
    """Quantized blocks in zigzag order, rows by columns, of a plane that has h x v
    of hmax x vmax samples."""
    wide, high = mcus[0] * h * 8, mcus[1] * v * 8
    full = np.pad(plane.astype(float), ((0, mcus[1] * vmax * 8 - plane.shape[0]), (0, mcus[0] * hmax * 8 - plane.shape[1])), "edge")
    small = full.reshape(high, vmax // v, wide, hmax // h).mean((1, 3)) - 128
    b = small.reshape(high // 8, 8, wide // 8, 8).transpose(0, 2, 1, 3)
    q = np.rint(DCT @ b @ DCT.T / STEP).astype(int)
    return q.reshape(high // 8, wide // 8, 64)[:, :, ZIGZAG]


def encode(planes, sampling, ids, interleaved=True, restart=0):
    """A baseline JPEG of planes as they are, without any marker of an application."""
    h, w = planes[0].shape
    hmax, vmax = max(s[0] for s in sampling), max(s[1] for s in sampling)
    mcus = -(-w // (8 * hmax)), -(-h // (8 * vmax))
    coded = [blocks_of(p, *s, hmax, vmax, mcus) for p, s in zip(planes, sampling)]
    out = b"\xff\xd8\xff\xdb\x00\x43\x00" + bytes([STEP] * 64)
    out += b"\xff\xc0" + (8 + 3 * len(ids)).to_bytes(2, "big") + b"\x08" + h.to_bytes(2, "big") + w.to_bytes(2, "big")
    out += bytes([len(ids)]) + b"".join(bytes([i, s[0] << 4 | s[1], 0]) for i, s in zip(ids, sampling))
    out += b"".join(s for s in STANDARD if s[4] & 15 == 0)
    if restart:
        out += b"\xff\xdd\x00\x04" + restart.to_bytes(2, "big")
    for scan in [range(len(ids))] if interleaved else [[i] for i in range(len(ids))]:
        out += b"\xff\xda" + (6 + 2 * len(scan)).to_bytes(2, "big") + bytes([len(scan)])
        out += b"".join(bytes([ids[i], 0]) for i in scan) + b"\x00\x3f\x00"
        if len(scan) > 1:
            units = [[(i, y * sampling[i][1] + v, x * sampling[i][0] + u) for i in scan for v in range(sampling[i][1]) for u in range(sampling[i][0])]
                     for y in range(mcus[1]) for x in range(mcus[0])]
        else:
            i, (sh, sv) = scan[0], sampling[scan[0]]
            wide, high = -(-(-(-w * sh // hmax)) // 8), -(-(-(-h * sv // vmax)) // 8)
            units = [[(i, y, x)] for y in range(high) for x in range(wide)]
        bits, before = Bits(), [0] * len(ids)
        for n, unit in enumerate(units):
            if restart and n and n % restart == 0:
                out += bits.data() + bytes([0xFF, 0xD0 + (n // restart - 1) % 8])
                bits, before = Bits(), [0] * len(ids)
            for i, y, x in unit:
                before[i] = put_block(bits, coded[i][y, x], before[i])
        out += bits.data()
    return out + b"\xff\xd9"


def field():
    photo = Image.fromarray(picture(50, 37))
    ycc = [np.asarray(photo.convert("YCbCr"))[:, :, i] for i in range(3)]
    ink = [picture(50, 37, 4)[:, :, i] for i in range(4)]
    plain = saved(photo, quality=85, subsampling="4:2:0")
    s420, s444 = [(2, 2), (1, 1), (1, 1)], [(1, 1)] * 3
    return {
        "no-dht": plain[:2] + b"".join(s for s in segments(plain) if s[1] != 0xC4),
        "progressive-restart": saved(photo, quality=85, subsampling="4:2:0", progressive=True, restart_marker_blocks=1),
        "progressive-restart-3": saved(photo, quality=85, subsampling="4:4:4", progressive=True, restart_marker_blocks=3),
        "restart": saved(photo, quality=85, subsampling="4:2:0", restart_marker_blocks=2),
        "scans": encode(ycc, s420, [1, 2, 3], interleaved=False),
        "scans-restart": encode(ycc, s420, [1, 2, 3], interleaved=False, restart=3),
        "mixed-22-11-12": encode(ycc, [(2, 2), (1, 1), (1, 2)], [1, 2, 3]),
        "mixed-22-21-11": encode(ycc, [(2, 2), (2, 1), (1, 1)], [1, 2, 3]),
        "mixed-21-11-21": encode(ycc, [(2, 1), (1, 1), (2, 1)], [1, 2, 3]),
        "422-as-22-12-12": encode(ycc, [(2, 2), (1, 2), (1, 2)], [1, 2, 3]),
        "440": encode(ycc, [(1, 2), (1, 1), (1, 1)], [1, 2, 3]),
        "411": encode(ycc, [(4, 1), (1, 1), (1, 1)], [1, 2, 3]),
        "ids-0": encode(ycc, s444, [0, 1, 2]),
        "ids-same": encode(ycc, s444, [7, 7, 7]),
        "rgb-ids": encode([np.asarray(photo)[:, :, i] for i in range(3)], s444, [82, 71, 66]),
        "cmyk-without-adobe": encode(ink, [(1, 1)] * 4, [67, 77, 89, 75]),
        "cmyk-restart": encode(ink, [(1, 1)] * 4, [1, 2, 3, 4], restart=4),
        "after-end": plain + plain[plain.index(b"\xff\xda"):][:14] * 150,
        "zeros-after-end": plain + bytes(3000),
        "fill": plain.replace(b"\xff\xda", b"\xff\xff\xff\xda").replace(b"\xff\xd9", b"\xff\xff\xd9"),
        "gray-22": encode([np.asarray(photo.convert("L"))], [(2, 2)], [1]),
        "gray-31": encode([np.asarray(photo.convert("L"))], [(3, 1)], [1]),
        "4x4": saved(photo.resize((4, 4)), quality=85, subsampling="4:2:0"),
    }


def opened(jpeg):
    image = Image.open(io.BytesIO(jpeg))
    image.load()
    return image


def reads(jpeg):
    try:
        opened(jpeg)
        return True
    except Exception:
        return False


def flipped(jpeg, k):
    at = 2 + k * 7919 % (len(jpeg) - 2)
    return jpeg[:at] + bytes([jpeg[at] ^ 1 << k % 8]) + jpeg[at + 1:]


for kind, jpeg in field().items():
    with open(f"field-{kind}.jpg", "wb") as f:
        f.write(jpeg)
    opened(jpeg).convert("RGB").save(f"field-{kind}.png")

ink = [picture(50, 37, 4)[:, :, i] for i in range(4)]
with open("panics.jpg", "wb") as f:
    jpeg = encode(ink, [(2, 2), (1, 1), (1, 1), (2, 2)], [1, 2, 3, 4])
    f.write(jpeg[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00" + jpeg[2:])

upright = Image.fromarray(picture(50, 37))
back = {2: Image.FLIP_LEFT_RIGHT, 3: Image.ROTATE_180, 4: Image.FLIP_TOP_BOTTOM, 5: Image.TRANSPOSE,
        6: Image.ROTATE_90, 7: Image.TRANSVERSE, 8: Image.ROTATE_270}
for n in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = n
    stored = upright.transpose(back[n]) if n > 1 else upright
    jpeg = saved(stored, quality=95, subsampling="4:4:4", exif=exif)
    assert ImageOps.exif_transpose(opened(jpeg)).size == upright.size
    with open(f"turn-{n}.jpg", "wb") as f:
        f.write(jpeg)

verdicts = {}
for file in sorted(glob.glob("[!p]*.jpg") + glob.glob("pil-*.jpg")):
    jpeg = open(file, "rb").read()
    least = next(n for n in range(len(jpeg) + 1) if reads(jpeg[:n]))
    assert all(reads(jpeg[:n]) for n in range(least, len(jpeg))), file
    verdicts[file] = {"least": least, "flips": "".join("ny"[reads(flipped(jpeg, k))] for k in range(FLIPS))}
with open("verdicts.json", "w") as f:
    json.dump(verdicts, f, indent=0)
    f.write("\n")
