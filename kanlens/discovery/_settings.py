"""Settings of the search, by theme, with their meanings.

Errors are relative and squared: the mean squared error over the variance of the target. Numbers
with a reason or a measurement say it; of the others none is on record. What all of them together
do is measured by ``python -m benchmarks symbolic``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of an ansatz: problems, models and formulas."""

    narrowest: int = 1  # columns
    widest: int = 10**6
    error: float = math.inf  # of a model, beyond which no formula is written
    tried: int = 1  # models, the best ones
    written: int = 1  # formulas of a model
    targets: tuple[str, ...] = ("id",)  # names of transforms of the target
    pieces: tuple[int, ...] = ()  # of the splines, from few to many where several are tried


# --- rounding and noise -------------------------------------------------------------------------

EXACT, EXACT_SINGLE = 1e-24, 1e-12  # errors at rounding level, also of single precision
SINGLE_STEPS = 2.0**29  # steps of rounding of double precision in one of single precision
ROUNDING_ERROR = 1e-9  # error from which rounding is as any noise
NOISELESS = 1e-12  # error up to which it is the truth; above, rows are weighted as errors of y
FLOOR = 1e-22  # error that counts as none in the information criterion
RIDGE = 1e-13  # of least squares, in parts of the size of the columns
COEFFICIENT_EPS = 1e-14  # of an exact formula, below which a coefficient is rounding
NEGLIGIBLE_TERM = 1e-9  # of the largest term of a sum, below which one is rounding

# --- columns ------------------------------------------------------------------------------------

DIVISOR, CLEAR_OF_ZERO = 1e-4, 1e-3  # least over largest size of one that divides; in formulas
CLEAR_OF_BOTH_SIGNS = 0.1  # likewise of a column of both signs
CLEAR_OF_POLE = 1e-2  # least size of a sine that may divide
NO_ZERO = 1e-6  # least over largest size of a column that may have a logarithm
POWER = 1e-9  # likewise of a target or factor that may have a power below 1
LOGARITHM, LOGARITHM_OF_SURFACE = 1e-250, 1e-100  # likewise a logarithm, and a smooth one
ANGLE = 0.5  # range of a target that may be an angle
# range and size below which a target may have an exponential, and a column; in the dictionary
EXPONENT, EXPONENT_INSIDE, DICTIONARY_EXPONENT = 30.0, 20.0, 12.0
LARGEST_ATOM, LARGEST_TERM = 1e12, 1e8  # values of functions that least squares takes
LIGHTEST = 1e-4  # least weight of a row
DIFFERENCE_STEP = 1e-6  # of a difference quotient, in parts of the target

# --- the ansatzes -------------------------------------------------------------------------------

POWERS_OF_TARGET = ("id", "log", "inv", "sq", "invsq", "sqrt", "invsqrt")
ANGLES_OF_TARGET = ("exp", "sin", "tan", "cos", "sinh", "atanh")
EVERY_TARGET = (*POWERS_OF_TARGET, *ANGLES_OF_TARGET)
ADDITIVE = Limits(error=0.2, tried=2, written=12, targets=EVERY_TARGET, pieces=(10,))
SEPARABLE = Limits(
    narrowest=2, widest=5, error=0.02, written=8, targets=("id", *ANGLES_OF_TARGET), pieces=(14,)
)
SEPARABLE_ROUNDS, SEPARABLE_WAIT = 25, 3  # rounds over the factors, and those without a gain
MAX_PRODUCT_ERROR = 0.2  # error after these rounds from which no more are made
GOOD_ADDITIVE = 3e-4  # error of an additive model that is worth more than two formulas
DEAD_PART, IDLE_WEIGHT = 1e-3, 1e-3  # of the largest part's deviation, or weight: it says nothing
SUMS_WRITTEN, OUTER_WRITTEN = 6, 12  # sums of functions, and functions of each
MONOMIALS = Limits(error=0.1, tried=4, written=3, targets=EVERY_TARGET)
LIBRARY, LONGEST_SUM = 130, 12  # monomials that are fitted together, and that a sum may keep
DEGREES, DEGREES_OF_ONE = (2, 3, 4, 6), (2, 3, 4, 6, 8, 10)
PAIR_EXPONENTS = ((-2.0, -1.0, 1.0, 2.0), (-1.0, -0.5, 0.5, 1.0))
BOX_EXPONENTS = ((-1, 0, 1), (-2, 0, 2), (-4, -2, 0, 2), (-4, -2, 0, 2, 4))
RATIO_DEGREES = (  # of numerator and denominator
    *((1, 1), (2, 1), (1, 2), (2, 2), (3, 1), (3, 2), (4, 2), (2, 4), (3, 3), (4, 4)),
)
RATIO_POWERS = {2: (-1.0, -0.5, 0.0, 0.5, 1.0), 3: (-1.0, 0.0, 1.0)}  # by the number of columns
RATIO_LIBRARY, RATIO_TERMS = 90, 15  # terms of both sums that are fitted, and that are kept
# smallest singular value of a null vector, in parts of the typical one; without noise, the largest
NULL_VALUE, RATIO_NOISELESS = 0.02, 1e-9
PAIRS_COMPARED = 20  # pairs of terms that are solved
DICTIONARY = Limits(narrowest=2, widest=4, error=0.01, tried=2, targets=("id", "log"))
DICTIONARY_TERMS, DICTIONARY_ARGUMENTS = 900, 12
BLOCK_SUMS = Limits(  # the first pieces while blocks are compared
    narrowest=2,
    widest=6,
    error=0.02,
    tried=3,
    written=6,
    targets=("id", "log", "inv", "sq", "exp", "sqrt", "tan", "atanh"),
    pieces=(7, 14, 28, 56),
)
PRODUCTS = Limits(  # the error is not squared; the column has the first pieces
    narrowest=2, widest=4, error=0.03, tried=3, written=4, pieces=(6, 20, 40)
)
PRODUCT_OUTER = ("id", "inv", "sq", "invsq", "sqrt", "log")  # of the function of the column
BLOCKS, BARE_BLOCKS, BLOCK_ROWS = 8000, 5000, 250  # compared: with functions, without; rows
ARGUMENTS, ARGUMENT_COLUMNS = 80, 3  # products, and likewise sums, that functions are taken of
PAIR_COST, BLOCK_PRICE = 0.5, 5.0  # of a sum, added to its terms'; factor on the error of a block
FEW_GROWN, GROWN = (2, 3), (3, 9)  # blocks added, sums kept: for all targets, for the best
BLOCK_TARGETS, FEW_BLOCKS = 2, 5  # the best of all, and blocks in the end, with single columns
BLOCK_RIDGE, BLOCK_ROUNDING = 1e-5, 1e-4  # in single precision
EXACT_BLOCKS, NEAR_BLOCKS, FAR_BLOCKS = 1e-9, 1e-6, 0.5  # errors: none, written at once, hopeless
BLOCK_ELIMINATION = 1e-7  # ridge; blocks of one combination say nearly the same

# --- curves -------------------------------------------------------------------------------------

GRID_POINTS, ONE_COLUMN_CURVES = 128, 3  # of a curve, and columns whose curves are offered alone
CURVE_ERROR, LESS_WELL = 1e-9, 1e-4  # of a curve that was fitted, or may be known less well
AS_NEAR, NEAR_CURVE = 1e2, 1e-6  # error of a formula, in parts of the curve's, and at most
SHORT_SUM = 27.0  # price of a sum of four powers
CURVES_KEPT, FAMILIES = 3, 8  # the best formulas, and elementary functions, per curve
INDEPENDENT, CURVE_NODE = 40, 1.4  # values that count, and price of a node as log likelihood
TRANSFORM_PRICE = {"id": 0, "inv": 1, "sq": 1, "sqrt": 1, "log": 2, "invsq": 2, "invsqrt": 2}
TRANSFORM_PRICE |= {"exp": 2, "sin": 3, "tan": 3, "cos": 3, "sinh": 3, "atanh": 3}
INNER_PRICE = {"id": 0, "sq": 1, "inv": 1, "sqrt": 1, "log": 2, "exp": 2}
POWER_SUMS: tuple[tuple[float, ...], ...] = (
    *((1, 2), (1, 2, 3, 4, 5, 6), (2, 4, 6, 8, 10, 12)),
    *((1,), (2,), (3,), (4,)),
)
POSITIVE_POWER_SUMS: tuple[tuple[float, ...], ...] = (
    *((-2, -1, 1, 2), (-4, -2, 2, 4), (-0.5, 0.5, 1, 1.5, 2)),
    *((-1,), (-2,), (0.5,), (1.5,)),
)
SINGLE = Limits(widest=1, error=0.5, written=10, pieces=(2, 4, 8, 16, 32, 64, 100))
MIN_REFINEMENT_GAIN = 0.8  # factor on the error that more pieces must give
WRITTEN_UNDER_NOISE = 24  # formulas, where noise leaves many as good
# errors of a curve that is not for want of pieces, and of a formula that is no start for a refit
NOISY_CURVE, LOST_CURVE = 1e-5, 0.05
CURVE_ENDS = (0.005, 0.995)  # quantiles of the column between which a curve is written
PRODUCT_CURVES = 4  # formulas of a factor
RATES = (-6.0, -3.0, -2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0, 3.0, 6.0)
ATOM_PAIRS = Limits(widest=1, error=0.01, tried=3)

# --- what slopes show ---------------------------------------------------------------------------

MAX_SLOPE_COLUMNS, SLOPE_NUGGET = 12, 1e-9  # beyond which the monomials are too many
SLOPE_ROWS, STRETCH_ROWS = 500, 150  # of the smooth model, and to compare stretches of columns
# shares of the rows, of least error, that judge fewer monomials; of least variance, for slopes
JUDGING, KNOWN_SLOPES = 0.9, 0.5
STRETCH, LEAST_STRETCH = 1.6, 1.2  # factors by which a column is stretched, from first to last
STRETCH_GAIN = 0.7  # factor on the error from which smaller factors are tried
# factor on the error that fewer monomials must reach, or error; and error that tells nothing
SPAN_GAIN, SPANNED, LOST_SPAN = 0.7, 1e-6, 0.1
MAX_SINGULAR_RATIO = 0.7  # of singular values behind the last monomial
SPAN_ROOM = (0.01, 2.0, 0.3)  # sine of the angle to a span: least, in parts of its error, most
SAME_SPAN = 0.2  # of exponents, below which they are the same direction
MAX_MONOMIAL_COLUMNS = 6  # columns up to which all of them may be in one monomial
POWER_COSTS = {0.0: 0.0, 1.0: 1.0, -1.0: 1.1, 2.0: 1.5, -2.0: 1.6, 0.5: 1.7, -0.5: 1.8}
SUM_PIECES, SUM_STEP, SUM_ERROR = 30, 1e-4, 1e-4  # splines of a sum, difference step, error
SUMMED_PIECES, SUM_ROUNDS, SUM_RIDGE = 10, 20, 1e-6  # of splines of columns under that of a sum

# --- the search, and the moves to simpler problems ----------------------------------------------

DEPTH, BRANCHES = 3, 3  # pairs of columns put together, and ways of each that are followed
FEW_COLUMNS = 4  # columns up to which sums of blocks and ratios come early
NO_LOO_ERROR = 1e-5  # loo_error that counts as none
HALF_POWER_TOLERANCE, THIRD_POWER_TOLERANCE = 0.02, 1e-3  # distance at which a power is that
# distance of an exponent from a multiple of one half that is tried, and the highest
HALF_TOLERANCE, HIGHEST_EXPONENT = 0.2, 6.0
LOO_GAIN = 0.9  # factor on the loo_error that a move must reach
REWEIGHTINGS = 8  # of absolute deviations
MAX_SELECTABLE_COLUMNS = 8  # columns among which few are chosen
AS_GOOD, WHOLE_POWER = 1.01, 1e-3  # factor on the best choice's error; distance from a whole number

# --- smooth models, noise and wrong rows --------------------------------------------------------

LENGTHS = (1.0, 2.5, 6.0)  # in deviations of a column, times the root of the number of columns
NUGGET, SMOOTH_ROWS = 1e-7, 300
WIDE_RANGE = 3.0  # largest over smallest value of a column whose logarithm is taken
HARDLY_SMOOTH = 0.8  # loo_error of the logarithm of a target, from which errors are absolute
TEST_PIECES, TEST_PIECES_OF_ONE = 5, 20  # of splines that look for what is left, of one column
TEST_SURE, TEST_ROWS = 4.0, 4  # deviations from what noise gives at most, and rows of a term
TEST_DEGREES, TEST_TERMS = (4, 3, 2), 200
TEST_LARGE_RESIDUAL = 0.1  # noise beyond this share of the variance is not believed
WRONG_LENGTHS, WRONG_NUGGET = (1.0, 2.5), 1e-2  # wrong cells are not followed
WRONG_BLOCK, WRONG_ROUNDS = 400, 12  # rows of one smooth model
MIN_ROWS_FOR_OUTLIERS = 8  # among which none is wrong
OUTLIER_DEVIATIONS = 8.0  # robust deviations
# least distance, of the inverse hyperbolic sine of robust deviations of the target
MIN_OUTLIER_DISTANCE = 1.0
BY_CHANCE = 1e-3  # chance of rows off a constant to lie where they do, below which it is no mistake
ALONE = 3.0  # deviations more, where the model knows nothing of a row
WORST = 0.5  # share of the largest error from which rows are taken out in the same round
MAX_OUTLIER_SHARE = 0.1  # share of the rows beyond which they are no exceptions
FOLLOWED = 1e-9  # share of a value that is followed exactly
WITHOUT_GAIN = 0.3  # factor on the error of a formula that leaving rows out must give
DISTANT = 1e3  # spans of the middle 90 % of a column beyond it
NORMAL = 1.4826  # standard deviation over median absolute deviation

# --- which formulas are kept --------------------------------------------------------------------

MAX_START_ERROR = 0.9  # error
REFIT_ALL_ERROR = 1e-4  # error below which every start is refitted
# error below which one is refitted at once, and others per step
REFIT_NOW_ERROR, REFITTED = 1e-6, 2
MAX_START_RATIO = 1e2  # factor by which a formula may start worse than a simpler one
# nodes beyond which nothing is refitted, no part left out
MAX_REFIT_NODES, MAX_THINNED_NODES = 120, 45
NUMEROUS, THIN_ROUNDS = 7, 12  # numbers beyond which no part is left out, and parts of a formula
NODE, NUMBER = 3.0, 6  # price of a node in units of the log likelihood, nodes for a number
DIGITS = 1.5  # price of a unit of the logarithm of a fraction's numerator and denominator
ODD = 2.0  # digits of fractions, by the natural logarithm, that may stand for any number
RISE = 1.03  # factor by which exact numbers and shorter forms may raise the error
POLISHED, NOTED = 4, 12  # formulas that are polished last, and remembered for that
SIMILAR = 1.15  # factor between errors of formulas that noise hardly tells apart
SNAP_FRACTION = 0.75  # share of the numbers of a formula that may become exact
UNSURE = 4.0  # factor of the error on rows held out over that on all that shows an overfit
# factor on the error that no length makes up for; exp(22 / rows) if more
MAX_ERROR_RATIO = 3.0, 22.0
REFIT_LIMITS = (8.0, 2.0)  # seconds, and shares of the time so far, for every number of a formula
MAX_EXACT_NUMBERS, ROWS_EACH = 6, 10  # numbers of an exact formula, and different rows for each
WORSE = 1.05  # factor by which a formula is worse than a shorter one by more than chance
MAX_ARGUMENTS = 60  # of a sum or product
HALF = 0.5  # relative error of the logarithm from which a formula tells more than a constant
MAX_TERMS = 12  # of all sums of a formula that is no more than near
MAX_NUMERATOR = 10**4  # largest numerator of a fraction that is shown as one

# --- rows and scales ----------------------------------------------------------------------------

MAX_ROWS = 2000
HELD_OUT, NONE_HELD_OUT = 0.3, 4  # share of the rows, and rows with which none can be
TELLING = 0.1  # of the variance of the target that rows held out must have
MAX_UNSEEN_ROWS = 200  # rows beyond those of the search that choose and judge
SAME_COLUMN = 1e-8  # distance of columns of unit length, up to which they are one
# of the middle, in spreads, from which zero is moved there, and digits are lost where it is not
RECENTER_DISTANCE, DIGITS_LOST = 100.0, 1e6
CORE = (0.05, 0.95)  # quantiles between which values are no outliers
DECADES = 3.0  # between which nearly all of a column or target of many decades lie
LARGEST_FACTOR = 1e12  # and one over it: beyond, a factor of scaled columns is of a wrong form
COMMON_POWER, LARGEST_IN_UNITS = 6, 1e20  # of ten, up to which a column is of common size; likewise
SOUND_SIZES = (1e-3, 1e4)  # largest sizes that are left as they are
ROUNDING_STEPS, DECIMALS = 4, 15  # that a constant may vary by, and be rounded to

# --- time ---------------------------------------------------------------------------------------

SIFTING = 0.5  # of the time, at most, to set wrong rows aside: of 10 s a third was too little
RESERVE = 0.25  # seconds, for the receipt
SEARCHING, POLISHING = 0.85, 0.1  # of the time; the rest is for the receipt
PASSES = 4  # searches, each without the rows that the one before did not follow

# --- trained networks, and the symmetry that they show ------------------------------------------

NETWORK_ROWS, UNIONS_TRIED = 30, 3  # at least; and at most
HIDDEN, GRID = (5, 2), 3  # nodes of a trained network: sums and products; intervals of its edges
TRAINING_STEPS, PATIENCE = 24, 6  # of training, and those without a gain
AS_WELL, ABOUT_AS_WELL = 1.15, 3.0  # factors by which a simpler network may err more: first, best
UNTRUSTED = 0.04  # share of a column at either end where slopes are not trusted
JOINED, LOOSE = 40.0, 0.04  # errors that the slopes of fewer columns differ by, and at most
HIGHEST_FACTOR = 4  # power
ROUND = 0.06  # relative distance at which an exponent is a multiple of one half, a weight one
