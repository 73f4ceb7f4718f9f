"""Ranges of characters of scripts that do not separate words by spaces, for use inside a character class of `re`.

Standard library only.
"""

from __future__ import annotations

WITHOUT_SPACES = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f"  # Burmese
    "\u1780-\u17ff"  # Khmer
    "\u2e80-\u312f\u3190-\ua4cf\uf900-\ufaff"  # Chinese, Japanese, Yi
    "\uff66-\uff9f"  # half-width katakana
    "\U00020000-\U0003ffff"  # ideographs beyond the basic plane
)
"""Chinese, Japanese, Thai, Lao, Burmese, Khmer."""

HANGUL = "\u3130-\u318f\uac00-\ud7af"
"""Korean: words are separated by spaces, but particles are joined to them."""

CHARACTER_IS_WORD = WITHOUT_SPACES + HANGUL
"""Scripts of which this package counts each character as a word."""
