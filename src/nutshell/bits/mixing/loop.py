"""The binary coder around the predictions: one compiled loop, which encodes and decodes."""

import hashlib
from pathlib import Path

import numba

from nutshell.bits.mixing.model import MASS, PARTIAL, begin, predict, update, whole
from nutshell.bits.mixing.state import CODE_BITS

_CODE = (1 << CODE_BITS) - 1


def _build(sources: int):
    # numba's cache notices a change of the file that a function is in, but not of the files that it calls. Variables
    # around a function are part of the cache's key: this one says what all the files are.
    @numba.njit(cache=True, _nrt=False)
    def code(s, coder, body, data, decoding, frequencies, chances):
        """Codes bytes into the body, or from it.

        Args:
            s: The state.
            coder: Four numbers: the interval's first and last number; how many bytes of the body were written or read;
                when decoding, the number that the body is, as far as it was read.
            body: uint8; written when encoding.
            data: uint8, the bytes; written when decoding.
            frequencies: int64, (bytes, 256), what another model expects, each at least 1; or (0, 256).
            chances: int32, 8 of each byte, or none; set to the chances, of 65,536, of the bits that came.

        Returns:
            Whether all went well: a body to decode may be too short.
        """
        if sources == 0:
            return False
        for place in range(len(data)):
            s.now[MASS] = 0
            if len(frequencies):
                for byte in range(256):
                    s.outer[byte] = frequencies[place, byte]
                    s.now[MASS] += frequencies[place, byte]
            begin(s)
            for shift in range(7, -1, -1):
                chance = predict(s)
                low, high = coder[0], coder[1]
                width = high - low
                middle = low + (width >> 16) * chance + ((width & 0xFFFF) * chance >> 16)
                bit = (1 if coder[3] <= middle else 0) if decoding else whole(data[place]) >> shift & 1
                if bit:
                    high = middle
                else:
                    low = middle + 1
                update(s, bit)
                if len(chances):
                    chances[place * 8 + 7 - shift] = chance if bit else 65536 - chance
                while (low ^ high) >> (CODE_BITS - 8) == 0:
                    at = coder[2]
                    if decoding:
                        if at >= len(body) + CODE_BITS // 8:
                            return False
                        byte = whole(body[at]) if at < len(body) else 0
                        coder[3] = coder[3] << 8 & _CODE | byte
                    else:
                        body[at] = high >> (CODE_BITS - 8)
                    coder[2] = at + 1
                    low, high = low << 8 & _CODE, high << 8 & _CODE | 0xFF
                coder[0], coder[1] = low, high
            if decoding:
                data[place] = s.now[PARTIAL] & 0xFF
        return True

    return code


_texts = b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
code = _build(int.from_bytes(hashlib.sha256(_texts).digest()[:7]) | 1)
