"""Settings of the search, by theme, with their meanings.

Errors are relative: the mean squared error over the variance of the target. The reason for a value
is noted if there is one; other values were chosen by trial. ``python -m benchmarks symbolic``
measures their joint effect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of an ansatz: problems, models and formulas."""

    narrowest: int = 1  # columns
    widest: int = 10**6
    error: float = math.inf  # largest error of a model that is written as a formula
    tried: int = 1  # number of best models
    written: int = 1  # formulas of a model
    targets: tuple[str, ...] = ("id",)  # names of transforms of the target
    pieces: tuple[int, ...] = ()  # intervals of splines, increasing


# --- rounding and noise -------------------------------------------------------------------------

EXACT, EXACT_SINGLE = 1e-24, 1e-12  # errors at rounding level, also of single precision
SINGLE_STEPS = 2.0**29  # ratio of single to double rounding
ROUNDING_ERROR = 1e-9  # error above which rounding counts as noise
NOISELESS = 1e-12  # largest error of an exact model; above it, rows are weighted as errors of y
FLOOR = 1e-22  # smallest error in the information criterion
RIDGE = 1e-13  # of least squares, relative to the columns' size
COEFFICIENT_EPS = 1e-14  # smaller coefficients of an exact formula are rounding
NEGLIGIBLE_TERM = 1e-9  # terms below this share of the largest are rounding

# --- columns ------------------------------------------------------------------------------------

DIVISOR, CLEAR_OF_ZERO = 1e-4, 1e-3  # min / max of |divisor|; in formulas
CLEAR_OF_BOTH_SIGNS = 0.1  # the same for a column of both signs
CLEAR_OF_POLE = 1e-2  # min of |sine| in a denominator
NO_ZERO = 1e-6  # min / max of a column under a logarithm
POWER = 1e-9  # the same under a power below 1
LOGARITHM, LOGARITHM_OF_SURFACE = 1e-250, 1e-100  # the same for targets; for smooth models
ANGLE = 0.5  # range of a target that may be an angle
# largest size under exp: of a target, of a column, in the dictionary
EXPONENT, EXPONENT_INSIDE, DICTIONARY_EXPONENT = 30.0, 20.0, 12.0
LARGEST_ATOM, LARGEST_TERM = 1e12, 1e8  # largest values in least squares
LIGHTEST = 1e-4  # least weight of a row
DIFFERENCE_STEP = 1e-6  # of a difference quotient, relative to the target

# --- the ansatzes -------------------------------------------------------------------------------

POWERS_OF_TARGET = ("id", "log", "inv", "sq", "invsq", "sqrt", "invsqrt")
ANGLES_OF_TARGET = ("exp", "sin", "tan", "cos", "sinh", "atanh")
EVERY_TARGET = (*POWERS_OF_TARGET, *ANGLES_OF_TARGET)
ADDITIVE = Limits(error=0.2, tried=2, written=12, targets=EVERY_TARGET, pieces=(10,))
SEPARABLE = Limits(
    narrowest=2, widest=5, error=0.02, written=8, targets=("id", *ANGLES_OF_TARGET), pieces=(14,)
)
SEPARABLE_ROUNDS, SEPARABLE_WAIT = 25, 3  # rounds, and rounds without a gain
MAX_PRODUCT_ERROR = 0.2  # error above which the fit ends after SEPARABLE_WAIT rounds
GOOD_ADDITIVE = 3e-4  # error up to which an additive model gives more than two formulas
DEAD_PART, IDLE_WEIGHT = 1e-3, 1e-3  # share of the largest curve below which one is left out
SUMS_WRITTEN, OUTER_WRITTEN = 6, 12  # sums of functions, and functions of each
MONOMIALS = Limits(error=0.1, tried=4, written=3, targets=EVERY_TARGET)
LIBRARY, LONGEST_SUM = 130, 12  # monomials fitted together, and kept in a sum
DEGREES, DEGREES_OF_ONE = (2, 3, 4, 6), (2, 3, 4, 6, 8, 10)
PAIR_EXPONENTS = ((-2.0, -1.0, 1.0, 2.0), (-1.0, -0.5, 0.5, 1.0))
BOX_EXPONENTS = ((-1, 0, 1), (-2, 0, 2), (-4, -2, 0, 2), (-4, -2, 0, 2, 4))
RATIO_DEGREES = (  # of numerator and denominator
    *((1, 1), (2, 1), (1, 2), (2, 2), (3, 1), (3, 2), (4, 2), (2, 4), (3, 3), (4, 4)),
)
RATIO_POWERS = {2: (-1.0, -0.5, 0.0, 0.5, 1.0), 3: (-1.0, 0.0, 1.0)}  # by the number of columns
RATIO_LIBRARY, RATIO_TERMS = 90, 15  # terms of both sums that are fitted, and kept
# largest singular value of a null vector, relative to the typical one; of one without noise
NULL_VALUE, RATIO_NOISELESS = 0.02, 1e-9
PAIRS_COMPARED = 20  # pairs of terms that are solved
DICTIONARY = Limits(narrowest=2, widest=4, error=0.01, tried=2, targets=("id", "log"))
DICTIONARY_TERMS, DICTIONARY_ARGUMENTS = 900, 12
BLOCK_SUMS = Limits(  # `pieces[0]` while blocks are compared
    narrowest=2,
    widest=6,
    error=0.02,
    tried=3,
    written=6,
    targets=("id", "log", "inv", "sq", "exp", "sqrt", "tan", "atanh"),
    pieces=(7, 14, 28, 56),
)
PRODUCTS = Limits(  # `error` is not squared; the column has `pieces[0]`
    narrowest=2, widest=4, error=0.03, tried=3, written=4, pieces=(6, 20, 40)
)
PRODUCT_OUTER = ("id", "inv", "sq", "invsq", "sqrt", "log")  # of the function of the column
BLOCKS, BARE_BLOCKS, BLOCK_ROWS = 8000, 5000, 250  # blocks with and without functions; rows
ARGUMENTS, ARGUMENT_COLUMNS = 80, 3  # products, and as many sums, as arguments
PAIR_COST, BLOCK_PRICE = 0.5, 5.0  # cost of a sum; factor on the error per block
FEW_GROWN, GROWN = (2, 3), (3, 9)  # (blocks, sums kept) for all targets; for the best
BLOCK_TARGETS, FEW_BLOCKS = 2, 5  # best targets; most blocks in the end
BLOCK_RIDGE, BLOCK_ROUNDING = 1e-5, 1e-4  # in single precision
EXACT_BLOCKS, NEAR_BLOCKS, FAR_BLOCKS = 1e-9, 1e-6, 0.5  # errors: exact, written at once, given up
BLOCK_ELIMINATION = 1e-7  # ridge: blocks of one combination are nearly collinear

# --- curves -------------------------------------------------------------------------------------

GRID_POINTS, ONE_COLUMN_CURVES = 128, 3  # points of a curve; columns tried alone
CURVE_ERROR, LESS_WELL = 1e-9, 1e-4  # noise of a fitted curve, low and high
AS_NEAR, NEAR_CURVE = 1e2, 1e-6  # largest error of a formula: relative to the curve's, absolute
SHORT_SUM = 27.0  # price of a sum of four powers
CURVES_KEPT, FAMILIES = 3, 8  # formulas, and elementary functions, per curve
INDEPENDENT, CURVE_NODE = 40, 1.4  # independent values; price of a node in log likelihood
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
MIN_REFINEMENT_GAIN = 0.8  # largest ratio of errors for more pieces
WRITTEN_UNDER_NOISE = 24  # formulas, if there is noise
# error of a curve that more pieces do not reduce; largest error of a start for a refit
NOISY_CURVE, LOST_CURVE = 1e-5, 0.05
CURVE_ENDS = (0.005, 0.995)  # quantiles of the column: range of a curve
PRODUCT_CURVES = 4  # formulas of a factor
RATES = (-6.0, -3.0, -2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0, 3.0, 6.0)
ATOM_PAIRS = Limits(widest=1, error=0.01, tried=3)

# --- what slopes show ---------------------------------------------------------------------------

MAX_SLOPE_COLUMNS, SLOPE_NUGGET = 12, 1e-9  # most columns
SLOPE_ROWS, STRETCH_ROWS = 500, 150  # rows of the smooth model, and to optimize length scales
# shares of the rows: with the least errors, for validation; with the least variance, for slopes
JUDGING, KNOWN_SLOPES = 0.9, 0.5
STRETCH, LEAST_STRETCH = 1.6, 1.2  # first and last factor of length scales
STRETCH_GAIN = 0.7  # ratio of errors above which the factor is reduced
# largest ratio of errors for fewer monomials; error at which they suffice; largest error
SPAN_GAIN, SPANNED, LOST_SPAN = 0.7, 1e-6, 0.1
MAX_SINGULAR_RATIO = 0.7  # ratio of singular values after the last monomial
SPAN_ROOM = (0.01, 2.0, 0.3)  # sine of an angle to a span: floor, factor of its error, cap
SAME_SPAN = 0.2  # sine below which directions are the same
MAX_MONOMIAL_COLUMNS = 6  # most columns of one monomial
POWER_COSTS = {0.0: 0.0, 1.0: 1.0, -1.0: 1.1, 2.0: 1.5, -2.0: 1.6, 0.5: 1.7, -0.5: 1.8}
SUM_PIECES, SUM_STEP, SUM_ERROR = 30, 1e-4, 1e-4  # splines, difference step and error of a sum
SUMMED_PIECES, SUM_ROUNDS, SUM_RIDGE = 10, 20, 1e-6  # of splines of columns inside a function

# --- the search, and the moves to simpler problems ----------------------------------------------

DEPTH, BRANCHES = 3, 3  # merges in a row; best merges followed at each
FEW_COLUMNS = 4  # columns up to which sums of blocks and ratios come early
NO_LOO_ERROR = 1e-5  # loo_error that counts as 0
HALF_POWER_TOLERANCE, THIRD_POWER_TOLERANCE = 0.02, 1e-3  # distances at which a power is rounded
# largest distance of an exponent from a multiple of one half; highest exponent
HALF_TOLERANCE, HIGHEST_EXPONENT = 0.2, 6.0
LOO_GAIN = 0.9  # largest ratio of loo_errors for a step
REWEIGHTINGS = 8  # of absolute deviations
MAX_SELECTABLE_COLUMNS = 8  # most columns to select from
AS_GOOD, WHOLE_POWER = 1.01, 1e-3  # ratio to the least error; distance from a whole number

# --- smooth models, noise and wrong rows --------------------------------------------------------

LENGTHS = (1.0, 2.5, 6.0)  # length scales of standardized columns, times the root of their number
NUGGET, SMOOTH_ROWS = 1e-7, 300
WIDE_RANGE = 3.0  # largest over smallest value of a column whose logarithm is taken
HARDLY_SMOOTH = 0.8  # loo_error of a target's logarithm above which errors are absolute
TEST_PIECES, TEST_PIECES_OF_ONE = 5, 20  # intervals of splines of the residual; with one column
TEST_SURE, TEST_ROWS = 4.0, 4  # largest deviation for noise, in standard errors; rows per term
TEST_DEGREES, TEST_TERMS = (4, 3, 2), 200
TEST_LARGE_RESIDUAL = 0.1  # largest share of the variance that is noise
WRONG_LENGTHS, WRONG_NUGGET = (1.0, 2.5), 1e-2  # does not interpolate outliers
WRONG_BLOCK, WRONG_ROUNDS = 400, 12  # rows per smooth model; rounds
MIN_ROWS_FOR_OUTLIERS = 8  # fewer have no outliers
OUTLIER_DEVIATIONS = 8.0  # robust deviations
# least distance, of the inverse hyperbolic sine of robust deviations of the target
MIN_OUTLIER_DISTANCE = 1.0
BY_CHANCE = 1e-3  # p-value of where rows off a constant lie, below which they are not outliers
ALONE = 3.0  # further deviations that are allowed far from other rows
WORST = 0.5  # share of the largest error above which rows are removed in one round
MAX_OUTLIER_SHARE = 0.1  # largest share of outliers
FOLLOWED = 1e-9  # relative error that counts as exact
WITHOUT_GAIN = 0.3  # largest ratio of a formula's errors without and with outliers
DISTANT = 1e3  # distance in ranges of the middle 90 % of a column
NORMAL = 1.4826  # standard deviation over median absolute deviation

# --- which formulas are kept --------------------------------------------------------------------

MAX_START_ERROR = 0.9  # largest error of a formula that is refitted
REFIT_ALL_ERROR = 1e-4  # error below which every start is refitted
# error below which a formula is refitted at once; others per step
REFIT_NOW_ERROR, REFITTED = 1e-6, 2
MAX_START_RATIO = 1e2  # largest ratio of a start's error to a simpler formula's
# most nodes to refit; to drop parts from
MAX_REFIT_NODES, MAX_THINNED_NODES = 120, 45
NUMEROUS, THIN_ROUNDS = 7, 12  # most constants to drop parts; parts of a formula
NODE, NUMBER = 3.0, 6  # price of a node in log likelihood; nodes per constant
DIGITS = 1.5  # price of the logarithm of a fraction's numerator times denominator
ODD = 2.0  # logarithm of numerator times denominator above which a fraction is arbitrary
RISE = 1.03  # largest ratio of errors for exact constants and shorter forms
POLISHED, NOTED = 4, 12  # formulas polished at the end; candidates for it
SIMILAR = 1.15  # ratio of errors that noise can explain
SNAP_FRACTION = 0.75  # largest share of constants made exact
UNSURE = 4.0  # ratio of held-out to overall error that shows overfitting
# largest ratio to the least error, or exp(22 / rows) if more
MAX_ERROR_RATIO = 3.0, 22.0
REFIT_LIMITS = (8.0, 2.0)  # seconds, and shares of the time so far, per constant
MAX_EXACT_NUMBERS, ROWS_EACH = 6, 10  # constants of an exact formula; distinct rows for each
WORSE = 1.05  # ratio of errors that is not chance
MAX_ARGUMENTS = 60  # of a sum or product
HALF = 0.5  # largest relative error of the logarithm
MAX_TERMS = 12  # of all sums of an approximate formula
MAX_NUMERATOR = 10**4  # of a fraction that is shown

# --- rows and scales ----------------------------------------------------------------------------

MAX_ROWS = 2000
HELD_OUT, NONE_HELD_OUT = 0.3, 4  # share of the rows; fewer rows than this have none
TELLING = 0.1  # least share of the target's variance on held-out rows
MAX_UNSEEN_ROWS = 200  # least further rows for validation and test
SAME_COLUMN = 1e-8  # distance of normalized columns that are the same
# distance from zero, in spreads, above which the origin moves; above which digits are lost
RECENTER_DISTANCE, DIGITS_LOST = 100.0, 1e6
CORE = (0.05, 0.95)  # quantiles that exclude outliers
DECADES = 3.0  # least decades of a wide column or target
LARGEST_FACTOR = 1e12  # of a plausible factor, and its inverse
COMMON_POWER, LARGEST_IN_UNITS = 6, 1e20  # powers of ten; largest constant
SOUND_SIZES = (1e-3, 1e4)  # sizes that are not rescaled
ROUNDING_STEPS, DECIMALS = 4, 15  # float spacings that count as rounding; most decimals

# --- time ---------------------------------------------------------------------------------------

SIFTING = 0.5  # largest share of the time to remove outliers; a third of 10 s was too little
RESERVE = 0.25  # seconds, for the receipt
SEARCHING, POLISHING = 0.85, 0.1  # shares of the time
PASSES = 4  # searches, each without the outliers of the last

# --- trained networks, and the symmetry that they show ------------------------------------------

NETWORK_ROWS, UNIONS_TRIED = 30, 3  # least rows; most merges
HIDDEN, GRID = (5, 2), 3  # nodes of a trained network: sums and products; intervals of its edges
TRAINING_STEPS, PATIENCE = 24, 6  # steps; steps without a gain
AS_WELL, ABOUT_AS_WELL = 1.15, 3.0  # largest ratios of errors of simpler networks: first, best
UNTRUSTED = 0.04  # share of a column at either end without slopes
JOINED, LOOSE = 40.0, 0.04  # largest difference of slopes: in errors, absolute
HIGHEST_FACTOR = 4  # power
ROUND = 0.06  # relative distance at which an exponent or weight is rounded
