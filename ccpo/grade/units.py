"""Units of measurement as people write them, and the words that change a number: what stands behind
"12" in "12 cm", "12 students", "12 dozen", "12 is wrong".

A unit has a canonical name made of its factors and their powers, so that m/s^2 is not m/s, nm is
not m, and "metres per second" is "m s^{-1}". A word that is no unit is a thing that is counted
("students") unless it is one of those that may change what the number is worth: then nothing is
read at all.
"""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction

_PREFIXES = {
    "": "",
    "k": "kilo",
    "c": "centi",
    "m": "milli",
    "d": "deci",
    "h": "hecto",
    "M": "mega",
    "G": "giga",
    "T": "tera",
    "n": "nano",
    "p": "pico",
    "f": "femto",
    "μ": "micro",
    "µ": "micro",
    "u": "micro",
}
# symbol -> name, of the units that take prefixes
_SI = {
    "m": "meter",
    "g": "gram",
    "s": "second",
    "L": "liter",
    "l": "liter",
    "A": "ampere",
    "K": "kelvin",
    "mol": "mole",
    "Hz": "hertz",
    "N": "newton",
    "Pa": "pascal",
    "J": "joule",
    "W": "watt",
    "C": "coulomb",
    "V": "volt",
    "F": "farad",
    "Ω": "ohm",
    "T": "tesla",
    "Wb": "weber",
    "H": "henry",
    "eV": "electronvolt",
    "cal": "calorie",
    "pc": "parsec",
    "bar": "bar",
    "lm": "lumen",
    "lx": "lux",
    "Bq": "becquerel",
    "Gy": "gray",
    "Sv": "sievert",
    "b": "bit",
    "B": "byte",
    "Wh": "watthour",
}
# canonical name -> what it is called, in any case of letters
_NAMES = {
    "degree": "degree degrees deg °",
    "celsius": "celsius degc 摄氏度 ℃",
    "fahrenheit": "fahrenheit degf",
    "radian": "radian radians rad rads",
    "arcminute": "arcminute arcminutes arcmin",
    "arcsecond": "arcsecond arcseconds arcsec",
    "inch": "inch inches in",
    "foot": "foot feet ft",
    "yard": "yard yards yd yds",
    "mile": "mile miles mi",
    "lightyear": "lightyear lightyears ly",
    "au": "au",
    "acre": "acre acres",
    "hectare": "hectare hectares ha 公顷",
    "gram": "gm gms 克",
    "kilogram": "kgs 千克 公斤",
    "ton": "ton tons tonne tonnes 吨",
    "pound": "pound pounds lb lbs 磅",
    "ounce": "ounce ounces oz",
    "stone": "stone",
    "meter": "米",
    "kilometer": "千米 公里 kms",
    "centimeter": "厘米 cms",
    "millimeter": "毫米",
    "decimeter": "分米",
    "second": "sec secs 秒 秒钟",
    "minute": "min mins minute minutes 分钟",
    "hour": "h hr hrs hour hours 小时",
    "day": "day days 天",
    "week": "week weeks wk wks 周 星期",
    "month": "month months 个月",
    "year": "year years yr yrs 年",
    "decade": "decade decades",
    "century": "century centuries 世纪",
    "am": "am",
    "pm": "pm",
    "liter": "升",
    "milliliter": "毫升",
    "gallon": "gallon gallons gal",
    "quart": "quart quarts qt qts",
    "pint": "pint pints pt pts",
    "cup": "cup cups",
    "teaspoon": "teaspoon teaspoons tsp",
    "tablespoon": "tablespoon tablespoons tbsp",
    "knot": "knot knots",
    "horsepower": "horsepower hp",
    "atmosphere": "atm atmosphere atmospheres",
    "erg": "erg ergs",
    "gauss": "gauss",
    "angstrom": "angstrom angstroms å",
    "molar": "molar",
    "dollar": "dollar dollars usd $ buck bucks 美元",
    "cent": "cent cents ¢ penny pennies 美分",
    "euro": "euro euros eur €",
    "sterling": "gbp £ quid",
    "rupee": "rupee rupees inr rs ₹",
    "yuan": "yuan rmb cny ¥ 元 元钱 块 块钱 人民币",
    "yen": "yen jpy",
    "jiao": "角",
    "unit": "unit units",
    "mass": "amu",
    "decibel": "db decibel decibels",
    "percentagepoint": "percentagepoint",
}
_SYMBOLS = {p + symbol: (_PREFIXES[p] + name) for p in _PREFIXES for symbol, name in _SI.items()}
del _SYMBOLS["B"]  # rather "billion" than "byte"
_WORDS = {
    word: prefix + name
    for prefix in set(_PREFIXES.values())
    for name in set(_SI.values())
    for word in (prefix + name, prefix + name + "s")
}
_WORDS |= {word.replace("meter", "metre"): name for word, name in _WORDS.items()}
_WORDS |= {word.replace("liter", "litre"): name for word, name in _WORDS.items()}
_WORDS |= {word: name for name, words in _NAMES.items() for word in words.split()}
_COMPOSED = {
    "mph": "mile per hour",
    "kph": "km per hour",
    "kmph": "km per hour",
    "fps": "foot per second",
    "rpm": "revolutions per minute",
    "cc": "cm^3",
    "ccs": "cm^3",
}

# What a word behind a number multiplies it by.
FACTORS: dict[str, Fraction] = {
    "pair": Fraction(2),
    "dozen": Fraction(12),
    "score": Fraction(20),
    "gross": Fraction(144),
    "hundred": Fraction(100),
    "thousand": Fraction(10**3),
    "million": Fraction(10**6),
    "billion": Fraction(10**9),
    "trillion": Fraction(10**12),
    "lakh": Fraction(10**5),
    "crore": Fraction(10**7),
    "half": Fraction(1, 2),
    "halve": Fraction(1, 2),
    "third": Fraction(1, 3),
    "quarter": Fraction(1, 4),
    "fourth": Fraction(1, 4),
    "fifth": Fraction(1, 5),
    "sixth": Fraction(1, 6),
    "seventh": Fraction(1, 7),
    "eighth": Fraction(1, 8),
    "ninth": Fraction(1, 9),
    "tenth": Fraction(1, 10),
    "hundredth": Fraction(1, 100),
    "thousandth": Fraction(1, 1000),
    "millionth": Fraction(1, 10**6),
    "万": Fraction(10**4),
    "亿": Fraction(10**8),
    "千": Fraction(1000),
    "百": Fraction(100),
    "十": Fraction(10),
}
# Words that may be left out where the question asks for a number of them.
COLLECTIVE = {"pair", "dozen", "score", "gross"}

# What is said around a unit and changes nothing.
_HARMLESS_WORDS = (
    "of the total altogether overall together each long tall high wide deep old away apart left "
    "remaining more only exactly precisely longer taller older heavier faster respectively long "
    "here there all combined tall now then also too his her their its he she they it are in on at "
    "for whole such"
)
# What may change a number: none of these is ever a thing that is counted.
_CHANGING_WORDS = (
    "or and to from not no nor neither than between about approximately approx around roughly "
    "nearly almost circa least most minimum maximum up under over above below beyond beneath less "
    "fewer plus minus negative positive times multiplied divided by squared cubed square cubic "
    "factorial root roots power base mod modulo remainder quotient percent percentage permille per "
    "cent wrong incorrect false right correct true is isn't isnt was are aren't be maybe perhaps "
    "possibly probably if unless but except without instead rather either both zero one two three "
    "four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety point decimal binary "
    "octal hex hexadecimal double twice triple thrice quadruple some several many few ish odd "
    "inverse reciprocal log ln exp e i pi x y z n k t r am. lots couple myriad googol bits? "
    "impossible undefined none nothing unknown infinite infinity would could should might"
)
_HARMLESS = frozenset(_HARMLESS_WORDS.split())
_CHANGERS = frozenset(_CHANGING_WORDS.split())
_CHANGING_CHARACTERS = set("万亿千百半成折分之以上以下左右多余约负不非或到至")
_TOKEN = re.compile(
    r"\^\s*\{?\s*(-?\d+)\s*\}?|([A-Za-zΩμµÅå]+(?:['’.-][A-Za-z]+)*\.?)|([一-鿿]+)|(/)|([*·]|\\cdot)|"
    r"(\s+)|([$€£¥₹¢°℃])"
)


def known(word: str) -> str | None:
    """Canonical name of a unit by its symbol or name, or None."""
    if word in _SYMBOLS:
        return _SYMBOLS[word]
    lower = word.lower()
    if lower in _WORDS:
        return None if len(word) == 1 and word.isupper() else _WORDS[lower]
    return _SYMBOLS.get(lower) if len(word) > 1 and word.isupper() and lower != "mm" else None


def factor(word: str) -> Fraction | None:
    """What a word multiplies a number by, or None."""
    word = word.lower().rstrip(".")
    singular = word[:-1] if word.endswith("s") and word != "gross" else word
    return FACTORS.get(singular, FACTORS.get("half" if singular == "halve" else word))


def counted(word: str) -> bool:
    """Whether a word may be a thing that is counted."""
    lower = word.lower().strip(".")
    if "." in lower:
        return False
    if re.search(r"(?:ths?|ish|fold)$", lower) and lower not in (
        "months",
        "month",
        "fish",
        "paths",
    ):
        return lower in ("path", "cloths", "cloth", "baths", "bath", "moths", "births", "months")
    return len(lower) >= 3 and lower not in _CHANGERS and factor(lower) is None


class _Reader:
    """Reads a unit token by token: powers of known units, and whether anything is counted."""

    def __init__(self) -> None:
        self.powers: Counter[str] = Counter()
        self.sign = 1  # -1 behind "per" or "/"
        self.power = 1  # that "square" or "cubic" gives to the unit that follows
        self.last: str | None = None
        self.nouns = 0

    def unit(self, name: str) -> None:
        """A known unit."""
        self.powers[name] += self.sign * self.power
        self.last = name
        self.power = 1

    def exponent(self, exponent: int) -> bool:
        """The power of the last unit; False where there is none."""
        if self.last is None:
            return False
        self.powers[self.last] += self.sign * (exponent - 1)
        self.last = None
        return True

    def word(self, word: str) -> bool:
        """One word; False where it may change the number."""
        plain = (
            word.rstrip(".")
            if word.lower().replace(".", "") not in ("am", "pm")
            else word.replace(".", "")
        )
        lower = plain.lower()
        if lower in ("per", "a", "an", "every"):
            if lower == "per" or self.powers or self.nouns:
                self.sign = -1
                self.last = None
                return True
            return False
        if lower in ("sq", "square", "cu", "cubic"):
            self.power = 2 if lower.startswith("s") else 3
            return True
        if lower in ("squared", "cubed"):
            return self.exponent(2 if lower == "squared" else 3)
        if lower in _COMPOSED:
            return self.read(_COMPOSED[lower])
        if lower in _HARMLESS and not (lower == "in" and not (self.powers or self.nouns)):
            return True
        if name := known(plain):
            self.unit(name)
            return True
        if self.power > 1 and counted(plain):
            return False
        self.nouns += counted(plain)
        return counted(plain)

    def chinese(self, word: str) -> bool:
        """A run of Chinese characters."""
        power = 2 if word.startswith("平方") else 3 if word.startswith("立方") else 1
        rest = word[2:] if power > 1 else word
        if rest in _WORDS:
            self.power = power
            self.unit(_WORDS[rest])
            return True
        self.nouns += 1
        return power == 1 and not _CHANGING_CHARACTERS & set(word)

    def read(self, text: str) -> bool:
        """All of it; False where something may change the number or cannot be read."""
        past = 0
        for token in _TOKEN.finditer(text):
            if token.start() != past:
                return False
            past = token.end()
            if token[1]:
                fine = self.exponent(int(token[1]))
            elif token[2] or token[7]:
                fine = self.word(token[2] or token[7])
            elif token[3]:
                fine = self.chinese(token[3])
            else:
                if token[4]:
                    self.sign = -1
                    self.last = None
                fine = True
            if not fine:
                return False
        return past == len(text) and self.power == 1


def unit(words: str) -> str | None:
    """Canonical name of a unit ("" for words that measure nothing, as in "12 students"), or None
    where the words may change the number.
    """
    text = re.sub(r"\\text\s*\{([^{}]*)\}", r" \1", words).strip()
    text = re.sub(r"\bin (?:total|all)\b|\b(?:all )?together\b|,\s*$", "", text).strip()
    text = re.sub(r"\s*-\s*(?=[A-Za-z])", " ", text)
    reader = _Reader()
    if not reader.read(text) or not (reader.powers or reader.nouns or not text):
        return None
    parts = sorted(f"{name}{'' if p == 1 else p}" for name, p in reader.powers.items() if p)
    return "*".join(parts)


def alike(answer: str, truth: str) -> bool:
    """Whether two units, given by their canonical names, may be of one number; "" is any."""
    if not answer or not truth or answer == truth:
        return True
    return {answer, truth} in ({"degree", "celsius"}, {"degree", "fahrenheit"}, {"yuan", "yen"})
