/* Inner products of a step over all tensors of a table: see eager.py for what they are, compiled.py for the caller.
 *
 * Nothing is written but `sums`. Elements are read as they are stored and computed with in float or double; a block is
 * added up in that type, lane by lane, and the blocks in double, in one order: the same bits for the same parts.
 * Needs a C99 compiler and no headers but the standard ones.
 */
#include <math.h>
#include <stdint.h>

#define BLOCK 1024
#define PART 16 /* parts begin at whole vectors */

typedef struct {
    int64_t param, grad, exp_avg, exp_avg_sq; /* addresses, 0 where there is none */
    int64_t size;                             /* elements */
    int64_t grad_step;                        /* 0 where the gradient is one number expanded, else 1 */
    int64_t index;                            /* of the tensor in `roots` and `corrections` */
} Row;

typedef struct {
    double grad_weight;        /* of the gradient in the first moment */
    double beta2;              /* of the past in the second moment */
    double grad_weight2;       /* of the squared gradient in the second moment */
    const double *eps;         /* eps times the root of the second bias correction, one a tensor */
    const double *corrections; /* that root over the first bias correction, one a tensor */
} Settings;

typedef uint16_t bfloat16;

static inline float of_float(float x) { return x; }
static inline double of_double(double x) { return x; }
static inline float of_bfloat16(bfloat16 x) {
    union { uint32_t bits; float value; } u = {(uint32_t)x << 16};
    return u.value;
}

static inline float root_float(float x) { return sqrtf(x); }
static inline double root_double(double x) { return sqrt(x); }

/* The loops of one block, with and without averages; STEP is a constant in each use, so that the loop is vectorised. */
#define IDENTITY_LOOP(T, A, STEP)                                                                  \
    _Pragma("omp simd reduction(+ : dot_d, dot_g, norm)")                                          \
    for (int64_t i = 0; i < n; i++) {                                                              \
        A x = of_##T(p[i]), gi = of_##T(g[(STEP) * i]);                                            \
        dot_d += gi * x;                                                                           \
        norm += gi * gi;                                                                           \
    }                                                                                              \
    dot_g = dot_d;

#define MOMENTUM_LOOP(T, A, STEP)                                                                  \
    _Pragma("omp simd reduction(+ : dot_d, dot_g, norm)")                                          \
    for (int64_t i = 0; i < n; i++) {                                                              \
        A x = of_##T(p[i]), gi = of_##T(g[(STEP) * i]), mi = of_##T(m[i]);                         \
        A d = mi + weight * (gi - mi);                                                             \
        dot_d += d * x;                                                                            \
        dot_g += gi * x;                                                                           \
        norm += d * d;                                                                             \
    }

#define ADAM_LOOP(T, A, STEP)                                                                      \
    _Pragma("omp simd reduction(+ : dot_d, dot_g, norm)")                                          \
    for (int64_t i = 0; i < n; i++) {                                                              \
        A x = of_##T(p[i]), gi = of_##T(g[(STEP) * i]), mi = of_##T(m[i]), vi = of_##T(v[i]);      \
        A d = mi + weight * (gi - mi);                                                             \
        A metric = root_##A(beta2 * vi + weight2 * (gi * gi)) + eps;                               \
        dot_d += d * x;                                                                            \
        dot_g += gi * x;                                                                           \
        norm += d * d / metric;                                                                    \
    }

#define DEFINE_BLOCK(KIND, LOOP, T, A)                                                             \
    static void KIND##_block_##T##_##A(const Row *row, int64_t start, int64_t n, const Settings *s, double *sums) { \
        const T *p = (const T *)(intptr_t)row->param + start;                                      \
        const T *g = (const T *)(intptr_t)row->grad + row->grad_step * start;                      \
        const T *m = (const T *)(intptr_t)row->exp_avg + start;                                    \
        const T *v = (const T *)(intptr_t)row->exp_avg_sq + start;                                 \
        A weight = (A)s->grad_weight, beta2 = (A)s->beta2, weight2 = (A)s->grad_weight2;           \
        A eps = s->eps ? (A)s->eps[row->index] : 0;                                                \
        A dot_d = 0, dot_g = 0, norm = 0;                                                          \
        (void)m, (void)v, (void)weight, (void)beta2, (void)weight2, (void)eps;                     \
        if (row->grad_step) {                                                                      \
            LOOP(T, A, 1)                                                                          \
        } else {                                                                                   \
            LOOP(T, A, 0)                                                                          \
        }                                                                                          \
        sums[0] += (double)dot_d;                                                                  \
        sums[1] += (double)dot_g;                                                                  \
        sums[2] += (double)norm * (s->corrections ? s->corrections[row->index] : 1.0);             \
    }

typedef void (*Block)(const Row *, int64_t, int64_t, const Settings *, double *);

static void add_part(Block block, const Row *rows, int64_t num_rows, int64_t part, int64_t num_parts,
                     const Settings *settings, double *sums) {
    int64_t total = 0, passed = 0;
    for (int64_t r = 0; r < num_rows; r++) total += rows[r].size;
    int64_t length = (total / num_parts + PART) / PART * PART; /* times num_parts at least the total */
    int64_t begin = part * length, end = begin + length;
    sums[0] = sums[1] = sums[2] = 0.0;
    for (int64_t r = 0; r < num_rows && passed < end; passed += rows[r++].size) {
        int64_t start = begin > passed ? begin - passed : 0;
        int64_t stop = end - passed < rows[r].size ? end - passed : rows[r].size;
        for (; start < stop; start += BLOCK)
            block(&rows[r], start, stop - start < BLOCK ? stop - start : BLOCK, settings, sums);
    }
}

/* Sums over part `part` of `num_parts` of all elements. `grad_weight` is read at its address, the rest by value. */
#define DEFINE_MEASURE(T, A)                                                                       \
    DEFINE_BLOCK(identity, IDENTITY_LOOP, T, A)                                                    \
    DEFINE_BLOCK(momentum, MOMENTUM_LOOP, T, A)                                                    \
    DEFINE_BLOCK(adam, ADAM_LOOP, T, A)                                                            \
    void identity_##T##_##A(const Row *rows, int64_t num_rows, int64_t part, int64_t num_parts,    \
                            const double *grad_weight, double *sums) {                             \
        Settings settings = {*grad_weight, 0.0, 0.0, 0, 0};                                        \
        Block block = rows->exp_avg ? momentum_block_##T##_##A : identity_block_##T##_##A;         \
        add_part(block, rows, num_rows, part, num_parts, &settings, sums);                         \
    }                                                                                              \
    void adam_##T##_##A(const Row *rows, int64_t num_rows, int64_t part, int64_t num_parts, double beta1, \
                        double beta2, const double *eps, const double *corrections, double *sums) { \
        Settings settings = {1.0 - beta1, beta2, 1.0 - beta2, eps, corrections};                   \
        add_part(adam_block_##T##_##A, rows, num_rows, part, num_parts, &settings, sums);          \
    }

DEFINE_MEASURE(float, float)
DEFINE_MEASURE(float, double)
DEFINE_MEASURE(double, double)
DEFINE_MEASURE(bfloat16, float)
DEFINE_MEASURE(bfloat16, double)

#ifdef __FLT16_MANT_DIG__ /* compilers that have the type on this processor */
typedef _Float16 float16;
static inline float of_float16(float16 x) { return (float)x; }
DEFINE_MEASURE(float16, float)
DEFINE_MEASURE(float16, double)
#endif
