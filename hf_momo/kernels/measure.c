/* Inner products of a step over all tensors of a table, and the update of sign methods: see eager.py for what they are,
 * compiled.py for the caller.
 *
 * Measuring writes nothing but `sums`. Elements are read as they are stored and computed with in float or double; a block is
 * added up in that type, lane by lane, and the blocks in double, in one order: the same bits for the same parts.
 * Needs a C99 compiler and no headers but the standard ones.
 */
#include <math.h>
#include <stdint.h>

#define BLOCK 1024
#define CHUNK (16 * BLOCK) /* what a thread takes at a time: 64 kB of each tensor in float32 */

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
    double lr, beta;           /* of an update: the rate, and the weight of the past in its direction */
} Settings;

typedef uint16_t bfloat16;

static inline float of_float(float x) { return x; }
static inline double of_double(double x) { return x; }
static inline float of_bfloat16(bfloat16 x) {
    union { uint32_t bits; float value; } u = {(uint32_t)x << 16};
    return u.value;
}

static inline float to_float(float x) { return x; }
static inline double to_double(double x) { return x; }
static inline bfloat16 to_bfloat16(float x) { /* to the nearest, ties to even; an update is never a NaN */
    union { float value; uint32_t bits; } u = {x};
    return (bfloat16)((u.bits + 0x7fff + (u.bits >> 16 & 1)) >> 16);
}

static inline float root_float(float x) { return sqrtf(x); }
static inline double root_double(double x) { return sqrt(x); }
static inline float size_float(float x) { return fabsf(x); }
static inline double size_double(double x) { return fabs(x); }

/* a * b + c with one rounding, as torch computes it, where the processor can. */
#ifdef FP_FAST_FMAF
static inline float fused_float(float a, float b, float c) { return fmaf(a, b, c); }
#else
static inline float fused_float(float a, float b, float c) { return a * b + c; }
#endif
#ifdef FP_FAST_FMA
static inline double fused_double(double a, double b, double c) { return fma(a, b, c); }
#else
static inline double fused_double(double a, double b, double c) { return a * b + c; }
#endif

/* Handling of the terms of the batch slope: left out, or summed. */
#define NOTHING(TERM)
#define SUMMED(TERM) grad_norm += TERM;

/* The loops of one block, with and without averages; STEP is a constant in each use, so that the loop is vectorised.
 * TERM is what is summed for the slope. */
#define GRADIENT_LOOP(T, A, STEP, TERM)                                                            \
    _Pragma("omp simd reduction(+ : dot_d, norm)")                                                 \
    for (int64_t i = 0; i < n; i++) {                                                              \
        A x = of_##T(p[i]), gi = of_##T(g[(STEP) * i]);                                            \
        A d = gi;                                                                                  \
        dot_d += d * x;                                                                            \
        norm += TERM;                                                                              \
    }                                                                                              \
    dot_g = dot_d;                                                                                 \
    grad_norm = norm;

#define AVERAGE_LOOP(T, A, STEP, TERM, BATCH_TERM)                                                 \
    _Pragma("omp simd reduction(+ : dot_d, dot_g, norm, grad_norm)")                               \
    for (int64_t i = 0; i < n; i++) {                                                              \
        A x = of_##T(p[i]), gi = of_##T(g[(STEP) * i]), mi = of_##T(m[i]);                         \
        A d = mi + weight * (gi - mi);                                                             \
        dot_d += d * x;                                                                            \
        dot_g += gi * x;                                                                           \
        norm += TERM;                                                                              \
        BATCH_TERM                                                                                 \
    }

#define IDENTITY_LOOP(T, A, STEP, BATCH) GRADIENT_LOOP(T, A, STEP, d * d)
#define MOMENTUM_LOOP(T, A, STEP, BATCH) AVERAGE_LOOP(T, A, STEP, d * d, BATCH(gi * gi))
#define SIGN_LOOP(T, A, STEP, BATCH) GRADIENT_LOOP(T, A, STEP, size_##A(d))
#define SIGN_MOMENTUM_LOOP(T, A, STEP, BATCH) AVERAGE_LOOP(T, A, STEP, size_##A(d), BATCH(size_##A(gi)))

#define ADAM_LOOP(T, A, STEP, BATCH)                                                               \
    _Pragma("omp simd reduction(+ : dot_d, dot_g, norm, grad_norm)")                               \
    for (int64_t i = 0; i < n; i++) {                                                              \
        A x = of_##T(p[i]), gi = of_##T(g[(STEP) * i]), mi = of_##T(m[i]), vi = of_##T(v[i]);      \
        A d = mi + weight * (gi - mi);                                                             \
        A metric = root_##A(beta2 * vi + weight2 * (gi * gi)) + eps;                               \
        dot_d += d * x;                                                                            \
        dot_g += gi * x;                                                                           \
        norm += d * d / metric;                                                                    \
        BATCH(gi * gi / metric)                                                                    \
    }

#define DEFINE_BLOCK(KIND, LOOP, BATCH, T, A)                                                      \
    static void KIND##_block_##T##_##A(const Row *row, int64_t start, int64_t n, const Settings *s, double *sums) { \
        const T *p = (const T *)(intptr_t)row->param + start;                                      \
        const T *g = (const T *)(intptr_t)row->grad + row->grad_step * start;                      \
        const T *m = (const T *)(intptr_t)row->exp_avg + start;                                    \
        const T *v = (const T *)(intptr_t)row->exp_avg_sq + start;                                 \
        A weight = (A)s->grad_weight, beta2 = (A)s->beta2, weight2 = (A)s->grad_weight2;           \
        A eps = s->eps ? (A)s->eps[row->index] : 0;                                                \
        A dot_d = 0, dot_g = 0, norm = 0, grad_norm = 0;                                           \
        (void)m, (void)v, (void)weight, (void)beta2, (void)weight2, (void)eps;                     \
        if (row->grad_step) {                                                                      \
            LOOP(T, A, 1, BATCH)                                                                   \
        } else {                                                                                   \
            LOOP(T, A, 0, BATCH)                                                                   \
        }                                                                                          \
        sums[0] += (double)dot_d;                                                                  \
        sums[1] += (double)dot_g;                                                                  \
        double correction = s->corrections ? s->corrections[row->index] : 1.0;                     \
        sums[2] += (double)norm * correction;                                                      \
        sums[3] += (double)grad_norm * correction;                                                 \
    }

/* Updates of a sign method; STEP as above. */
#define SIGN_UPDATE_LOOP(T, A, STEP)                                                               \
    _Pragma("omp simd")                                                                            \
    for (int64_t i = 0; i < n; i++) {                                                              \
        A d = of_##T(g[(STEP) * i]);                                                               \
        p[i] = to_##T(of_##T(p[i]) - (d > 0 ? lr : d < 0 ? -lr : 0));                              \
    }

#define SIGN_MOMENTUM_UPDATE_LOOP(T, A, STEP)                                                      \
    _Pragma("omp simd")                                                                            \
    for (int64_t i = 0; i < n; i++) {                                                              \
        A gi = of_##T(g[(STEP) * i]), mi = of_##T(m[i]);                                           \
        A d = fused_##A(weight, gi, past * mi);                                                    \
        p[i] = to_##T(of_##T(p[i]) - (d > 0 ? lr : d < 0 ? -lr : 0));                              \
        m[i] = to_##T(fused_##A(kept_weight, gi, kept_past * mi));                                      \
    }

#define DEFINE_UPDATE_BLOCK(KIND, LOOP, T, A)                                                      \
    static void KIND##_block_##T(const Row *row, int64_t start, int64_t n, const Settings *s, double *sums) { \
        T *restrict p = (T *)(intptr_t)row->param + start;                                         \
        const T *restrict g = (const T *)(intptr_t)row->grad + row->grad_step * start;             \
        T *restrict m = (T *)(intptr_t)row->exp_avg + start;                                       \
        A past = (A)s->beta, weight = (A)s->grad_weight, lr = (A)s->lr;                            \
        A kept_past = (A)s->beta2, kept_weight = (A)s->grad_weight2;                               \
        (void)m, (void)past, (void)weight, (void)kept_past, (void)kept_weight, (void)sums;         \
        if (row->grad_step) {                                                                      \
            LOOP(T, A, 1)                                                                          \
        } else {                                                                                   \
            LOOP(T, A, 0)                                                                          \
        }                                                                                          \
    }

typedef void (*Block)(const Row *, int64_t, int64_t, const Settings *, double *);

/* Threads of an OpenMP runtime that the process has loaded, by the three functions of GNU's that are needed. */
typedef struct {
    void (*parallel)(void (*function)(void *), void *argument, unsigned num_threads, unsigned flags);
    int (*thread_num)(void);
    int (*num_threads)(void);
} Runtime;

typedef struct {
    const Row *rows;
    int64_t num_rows, num_parts;
    int64_t batch_slope; /* whether the fourth sum is asked for */
    double *sums;        /* four numbers a part */
    const Runtime *runtime;
} Job;

typedef struct {
    const Job *job;
    Block block;
    const Settings *settings;
    int from_the_end;
} Work;

/* Every num_parts-th chunk. Measuring goes from the last tensor to the first: the update that follows begins at the
 * first, of which the cache then holds some. */
static void add_part(const Work *work, int64_t part) {
    const Job *job = work->job;
    double *sums = job->sums + 4 * part;
    int64_t passed = 0;
    sums[0] = sums[1] = sums[2] = sums[3] = 0.0;
    for (int64_t r = 0; r < job->num_rows; r++) {
        const Row *row = &job->rows[work->from_the_end ? job->num_rows - 1 - r : r];
        int64_t size = row->size, num_chunks = (size + CHUNK - 1) / CHUNK;
        for (int64_t c = 0; c < num_chunks; c++) {
            int64_t chunk = (work->from_the_end ? num_chunks - 1 - c : c) * CHUNK;
            if ((passed + chunk) / CHUNK % job->num_parts != part) continue;
            int64_t stop = size - chunk < CHUNK ? size : chunk + CHUNK;
            for (int64_t start = chunk; start < stop; start += BLOCK)
                work->block(row, start, stop - start < BLOCK ? stop - start : BLOCK, work->settings, sums);
        }
        passed += size;
    }
}

static void add_parts(void *argument) {
    const Work *work = argument;
    const Runtime *runtime = work->job->runtime;
    /* A runtime may give fewer threads than it was asked for. */
    for (int64_t part = runtime->thread_num(); part < work->job->num_parts; part += runtime->num_threads())
        add_part(work, part);
}

static void add_all(const Job *job, Block block, const Settings *settings, int from_the_end) {
    Work work = {job, block, settings, from_the_end};
    if (job->runtime && job->num_parts > 1) {
        job->runtime->parallel(add_parts, &work, (unsigned)job->num_parts, 0);
    } else {
        for (int64_t part = 0; part < job->num_parts; part++) add_part(&work, part);
    }
}

/* `grad_weight` is read at its address, the other numbers are values. */
#define DEFINE_MEASURE(T, A)                                                                       \
    DEFINE_BLOCK(identity, IDENTITY_LOOP, NOTHING, T, A)                                           \
    DEFINE_BLOCK(momentum, MOMENTUM_LOOP, NOTHING, T, A)                                           \
    DEFINE_BLOCK(momentum_batch, MOMENTUM_LOOP, SUMMED, T, A)                                      \
    DEFINE_BLOCK(sign, SIGN_LOOP, NOTHING, T, A)                                                   \
    DEFINE_BLOCK(sign_momentum, SIGN_MOMENTUM_LOOP, NOTHING, T, A)                                 \
    DEFINE_BLOCK(sign_momentum_batch, SIGN_MOMENTUM_LOOP, SUMMED, T, A)                            \
    DEFINE_BLOCK(adam, ADAM_LOOP, NOTHING, T, A)                                                   \
    DEFINE_BLOCK(adam_batch, ADAM_LOOP, SUMMED, T, A)                                              \
    void identity_##T##_##A(const Job *job, const double *grad_weight) {                           \
        Settings settings = {*grad_weight, 0.0, 0.0, 0, 0, 0.0, 0.0};                              \
        Block momentum = job->batch_slope ? momentum_batch_block_##T##_##A : momentum_block_##T##_##A; \
        add_all(job, job->rows->exp_avg ? momentum : identity_block_##T##_##A, &settings, 1);      \
    }                                                                                              \
    void sign_##T##_##A(const Job *job, const double *grad_weight) {                               \
        Settings settings = {*grad_weight, 0.0, 0.0, 0, 0, 0.0, 0.0};                              \
        Block momentum = job->batch_slope ? sign_momentum_batch_block_##T##_##A : sign_momentum_block_##T##_##A; \
        add_all(job, job->rows->exp_avg ? momentum : sign_block_##T##_##A, &settings, 1);          \
    }                                                                                              \
    void adam_##T##_##A(const Job *job, double beta1, double beta2, const double *eps, const double *corrections) { \
        Settings settings = {1.0 - beta1, beta2, 1.0 - beta2, eps, corrections, 0.0, 0.0};         \
        add_all(job, job->batch_slope ? adam_batch_block_##T##_##A : adam_block_##T##_##A, &settings, 1); \
    }

/* `lr` and `skip` are read at their addresses; where `skip` is not 0, nothing is written. */
#define DEFINE_UPDATE(T, A)                                                                        \
    DEFINE_UPDATE_BLOCK(sign_update, SIGN_UPDATE_LOOP, T, A)                                       \
    DEFINE_UPDATE_BLOCK(sign_momentum_update, SIGN_MOMENTUM_UPDATE_LOOP, T, A)                     \
    void update_sign_##T(const Job *job, double beta1, double beta2, const double *lr, const double *skip) { \
        Settings settings = {1.0 - beta1, beta2, 1.0 - beta2, 0, 0, *lr, beta1};                   \
        if (*skip != 0.0) return;                                                                  \
        add_all(job, job->rows->exp_avg ? sign_momentum_update_block_##T : sign_update_block_##T, &settings, 0); \
    }

DEFINE_MEASURE(float, float)
DEFINE_MEASURE(float, double)
DEFINE_MEASURE(double, double)
DEFINE_MEASURE(bfloat16, float)
DEFINE_MEASURE(bfloat16, double)
DEFINE_UPDATE(float, float)
DEFINE_UPDATE(double, double)
DEFINE_UPDATE(bfloat16, float)

#ifdef __FLT16_MANT_DIG__ /* compilers that have the type on this processor */
typedef _Float16 float16;
static inline float of_float16(float16 x) { return (float)x; }
static inline float16 to_float16(float x) { return (float16)x; }
DEFINE_MEASURE(float16, float)
DEFINE_MEASURE(float16, double)
DEFINE_UPDATE(float16, float)
#endif
