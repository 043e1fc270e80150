/* Value and gradient of the circuit of workload W by hand: what this machine can do when nothing has to be general.
 *
 * Angle embedding (RX), L strongly entangling layers, <Z> on each wire; adjoint differentiation in float32. A block of LANES
 * samples goes through the whole circuit before the next one, samples in the SIMD lanes, real and imaginary planes apart.
 *   - Embedding and first layer act on single wires of |0...0>: a product state, written directly, differentiated by
 *     contracting it wire by wire.
 *   - A later layer is one pass for ring of CNOTs and diagonal (RZ of this layer and of the one before), and passes of RY
 *     on two wires each. What follows the last RY only moves and rephases amplitudes: it enters the observables.
 *   - All <Z> come from one folding of the probabilities; so do all gradients of RZ.
 */
#include <complex.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#define LANES 16
typedef float lanes __attribute__((vector_size(4 * LANES)));

typedef struct {
    lanes *re, *im;
} state;

typedef struct {
    lanes re[2], im[2];         /* factor of one wire in the product state */
    lanes dre[4][2], dim[4][2]; /* by x, phi, theta, omega */
} wire_factor;

typedef struct {
    state a, b, t, u; /* state, scratch, cotangent, scratch */
    state *tail;      /* per wire: the product of this wire and all after it */
    wire_factor *factors;
    lanes *values, *each;
    float *d_weights;
} workspace;

typedef struct {
    int n, n_layers, threads;
    long size;
    const float *weights;         /* (n_layers, n, 3): phi, theta, omega of Rot = RZ(omega) RY(theta) RZ(phi) */
    long **source;                /* per layer: where amplitude i of the state after its CNOT ring comes from */
    float complex **phase, *table; /* per layer >= 1: factors of the pass before its RY */
    workspace *work;              /* per thread */
} circuit;

static long bit(const circuit *c, int wire) { return 1L << (c->n - 1 - wire); }

static lanes spread(float x) { return x - (lanes){0}; }

static float total(lanes x) {
    float sum = 0;
    for (int k = 0; k < LANES; k++) sum += x[k];
    return sum;
}

static lanes *allocate(long count) {
    void *memory = NULL;
    return posix_memalign(&memory, 64, count * sizeof(lanes)) ? NULL : memory;
}

/* The ring of layer l: CNOT(w, w + reach) for w = 0, 1, ...; new[i] = old[source[i]]. */
static void ring(const circuit *c, int layer, long *source) {
    int reach = c->n > 1 ? layer % (c->n - 1) + 1 : 0;
    for (long i = 0; i < c->size; i++) {
        long at = i;
        for (int w = c->n - 1; w >= 0 && reach; w--)
            if (at & bit(c, w)) at ^= bit(c, (w + reach) % c->n);
        source[i] = at;
    }
}

/* exp(-i/2 (sum over wires of +-angle)), the angles `stride` apart */
static void diagonal_of(const circuit *c, const float *angles, float complex *out) {
    out[0] = 1;
    long size = 1;
    for (int w = c->n - 1; w >= 0; w--, size *= 2) {
        float complex zero = cexpf(-0.5f * I * angles[w * 3]), one = conjf(zero);
        for (long i = 0; i < size; i++) {
            out[i + size] = one * out[i];
            out[i] *= zero;
        }
    }
}

static void set_weights(circuit *c, const float *weights) {
    c->weights = weights;
    for (int l = 1; l < c->n_layers; l++) {
        diagonal_of(c, weights + l * c->n * 3, c->phase[l]);
        if (l == 1) continue; /* omega of the first layer is in the product */
        diagonal_of(c, weights + (l - 1) * c->n * 3 + 2, c->table);
        for (long i = 0; i < c->size; i++) c->phase[l][i] *= c->table[c->source[l - 1][i]];
    }
}

/* RY on wires a and b (one wire where b < 0), on two states where lambda is given; then also their gradients. */
#define ROTATE(p, i, j, co, si)                   \
    {                                             \
        lanes u = p[i], v = p[j];                 \
        p[i] = co * u - si * v;                   \
        p[j] = si * u + co * v;                   \
    }

static void rotate(const circuit *c, state s, int a, float theta_a, int b, float theta_b) {
    long ma = bit(c, a), mb = b < 0 ? 0 : bit(c, b);
    lanes ca = spread(cosf(theta_a / 2)), sa = spread(sinf(theta_a / 2)), cb = spread(cosf(theta_b / 2)),
          sb = spread(sinf(theta_b / 2));
    for (int plane = 0; plane < 2; plane++) {
        lanes *p = plane ? s.im : s.re;
        if (b < 0) {
            for (long i = 0; i < c->size; i++)
                if (!(i & ma)) ROTATE(p, i, i | ma, ca, sa);
            continue;
        }
        for (long high = 0; high < c->size; high += 2 * ma)
            for (long middle = high; middle < high + ma; middle += 2 * mb)
                for (long i = middle; i < middle + mb; i++) {
                    lanes p00 = p[i], p01 = p[i | mb], p10 = p[i | ma], p11 = p[i | ma | mb];
                    lanes q00 = ca * p00 - sa * p10, q10 = sa * p00 + ca * p10;
                    lanes q01 = ca * p01 - sa * p11, q11 = sa * p01 + ca * p11;
                    p[i] = cb * q00 - sb * q01;
                    p[i | mb] = sb * q00 + cb * q01;
                    p[i | ma] = cb * q10 - sb * q11;
                    p[i | ma | mb] = sb * q10 + cb * q11;
                }
    }
}

/* Gradients of RY on wires a and b (b < 0: a alone), then both states as they were before it. */
static void unrotate(const circuit *c, state s, state t, int a, float theta_a, int b, float theta_b, float *da, float *db) {
    long ma = bit(c, a), mb = b < 0 ? 0 : bit(c, b);
    lanes ca = spread(cosf(theta_a / 2)), sa = spread(-sinf(theta_a / 2)), cb = spread(cosf(theta_b / 2)),
          sb = spread(-sinf(theta_b / 2)), ga = {0}, gb = {0};
    for (int plane = 0; plane < 2; plane++) {
        lanes *p = plane ? s.im : s.re, *q = plane ? t.im : t.re;
        if (b < 0) {
            for (long i = 0; i < c->size; i++)
                if (!(i & ma)) {
                    ga += q[i | ma] * p[i] - q[i] * p[i | ma];
                    ROTATE(p, i, i | ma, ca, sa);
                    ROTATE(q, i, i | ma, ca, sa);
                }
            continue;
        }
        for (long high = 0; high < c->size; high += 2 * ma)
            for (long middle = high; middle < high + ma; middle += 2 * mb)
                for (long i = middle; i < middle + mb; i++) {
                    lanes p00 = p[i], p01 = p[i | mb], p10 = p[i | ma], p11 = p[i | ma | mb];
                    lanes q00 = q[i], q01 = q[i | mb], q10 = q[i | ma], q11 = q[i | ma | mb];
                    ga += q10 * p00 - q00 * p10 + q11 * p01 - q01 * p11;
                    gb += q01 * p00 - q00 * p01 + q11 * p10 - q10 * p11;
                    lanes u00 = ca * p00 - sa * p10, u10 = sa * p00 + ca * p10;
                    lanes u01 = ca * p01 - sa * p11, u11 = sa * p01 + ca * p11;
                    lanes v00 = ca * q00 - sa * q10, v10 = sa * q00 + ca * q10;
                    lanes v01 = ca * q01 - sa * q11, v11 = sa * q01 + ca * q11;
                    p[i] = cb * u00 - sb * u01, p[i | mb] = sb * u00 + cb * u01;
                    p[i | ma] = cb * u10 - sb * u11, p[i | ma | mb] = sb * u10 + cb * u11;
                    q[i] = cb * v00 - sb * v01, q[i | mb] = sb * v00 + cb * v01;
                    q[i | ma] = cb * v10 - sb * v11, q[i | ma | mb] = sb * v10 + cb * v11;
                }
    }
    *da += total(ga);
    if (b >= 0) *db += total(gb);
}

/* out[w] = sum over i of +-values[i], minus where wire w is 1. Destroys values. */
static void fold(const circuit *c, lanes *values, lanes *out) {
    for (int w = 0; w < c->n; w++) {
        long half = bit(c, w);
        lanes difference = {0};
        for (long i = 0; i < half; i++) {
            difference += values[i] - values[i + half];
            values[i] += values[i + half];
        }
        out[w] = difference;
    }
}

/* One wire's factor of the product state, Rot RX(x) |0>, and its derivatives by x, phi, theta, omega. */
static void factor(float x, const float *rot, float complex f[2], float complex df[4][2]) {
    float complex before = cexpf(-0.5f * I * rot[0]), after = cexpf(-0.5f * I * rot[2]);
    float co = cosf(rot[1] / 2), si = sinf(rot[1] / 2), c = cosf(x / 2), s = sinf(x / 2);
    float complex u[5][2] = {{c, -I * s}, {-s / 2, -I * c / 2}, {0}, {0}, {0}};
    for (int k = 0; k < 2; k++) {
        u[k][0] *= before;
        u[k][1] *= conjf(before);
    }
    u[2][0] = -0.5f * I * u[0][0], u[2][1] = 0.5f * I * u[0][1];
    u[3][0] = -0.5f * u[0][1], u[3][1] = 0.5f * u[0][0];
    for (int k = 0; k < 4; k++) {
        float complex v0 = (co * u[k][0] - si * u[k][1]) * after, v1 = (si * u[k][0] + co * u[k][1]) * conjf(after);
        u[k][0] = v0, u[k][1] = v1;
    }
    for (int b = 0; b < 2; b++) {
        f[b] = u[0][b];
        for (int k = 0; k < 3; k++) df[k][b] = u[k + 1][b];
        df[3][b] = (b ? 0.5f : -0.5f) * I * f[b];
    }
}

/* The product state in s; tail[w] keeps the product of wires w ... n-1. */
static void product(const circuit *c, const wire_factor *f, state s, state *tail) {
    s.re[0] = spread(1), s.im[0] = spread(0);
    long size = 1;
    for (int w = c->n - 1; w >= 0; w--) {
        memcpy(tail[w + 1].re, s.re, size * sizeof(lanes));
        memcpy(tail[w + 1].im, s.im, size * sizeof(lanes));
        for (long i = 0; i < size; i++) {
            lanes re = s.re[i], im = s.im[i];
            for (int b = 1; b >= 0; b--) {
                s.re[i + b * size] = f[w].re[b] * re - f[w].im[b] * im;
                s.im[i + b * size] = f[w].re[b] * im + f[w].im[b] * re;
            }
        }
        size *= 2;
    }
}

/* Gradients of the product state: t, the cotangent, is contracted with one wire after the other, the first one first. */
static void unproduct(const circuit *c, const wire_factor *f, state t, state *tail, lanes *d_angles, float *d_weights) {
    for (int w = 0; w < c->n; w++) {
        long half = bit(c, w);
        lanes cre[2] = {{0}, {0}}, cim[2] = {{0}, {0}}; /* sum over the other wires of conj(t) times their product */
        for (int b = 0; b < 2; b++)
            for (long i = 0; i < half; i++) {
                lanes tr = t.re[i + b * half], ti = t.im[i + b * half], sr = tail[w + 1].re[i], si = tail[w + 1].im[i];
                cre[b] += tr * sr + ti * si;
                cim[b] += tr * si - ti * sr;
            }
        for (int k = 0; k < 4; k++) {
            lanes gradient = {0};
            for (int b = 0; b < 2; b++) gradient += 2 * (cre[b] * f[w].dre[k][b] - cim[b] * f[w].dim[k][b]);
            if (k == 0)
                d_angles[w] = gradient;
            else
                d_weights[w * 3 + k - 1] += total(gradient);
        }
        for (long i = 0; i < half; i++) { /* t contracted: sum over b of conj(f[b]) t[b] */
            lanes re = {0}, im = {0};
            for (int b = 0; b < 2; b++) {
                lanes tr = t.re[i + b * half], ti = t.im[i + b * half];
                re += f[w].re[b] * tr + f[w].im[b] * ti;
                im += f[w].re[b] * ti - f[w].im[b] * tr;
            }
            t.re[i] = re, t.im[i] = im;
        }
    }
}

static void rotations(const circuit *c, state s, int layer) {
    const float *w = c->weights + layer * c->n * 3;
    for (int a = 0; a < c->n; a += 2)
        rotate(c, s, a, w[a * 3 + 1], a + 1 < c->n ? a + 1 : -1, a + 1 < c->n ? w[a * 3 + 4] : 0);
}

static void swap(state *x, state *y) {
    state z = *x;
    *x = *y, *y = z;
}

static void block(const circuit *c, workspace *k, int count, const float *angles, const float *cotangent, float *values,
                  float *d_angles) {
    int n = c->n;
    float *d_weights = k->d_weights;
    const long *last = c->source[c->n_layers - 1];
    for (int w = 0; w < n; w++)
        for (int lane = 0; lane < LANES; lane++) {
            float complex f[2], df[4][2];
            factor(lane < count ? angles[lane * n + w] : 0, c->weights + w * 3, f, df);
            for (int b = 0; b < 2; b++) {
                k->factors[w].re[b][lane] = crealf(f[b]), k->factors[w].im[b][lane] = cimagf(f[b]);
                for (int d = 0; d < 4; d++)
                    k->factors[w].dre[d][b][lane] = crealf(df[d][b]), k->factors[w].dim[d][b][lane] = cimagf(df[d][b]);
            }
        }
    product(c, k->factors, k->a, k->tail);
    for (int l = 1; l < c->n_layers; l++) {
        const long *source = c->source[l - 1];
        for (long i = 0; i < c->size; i++) {
            lanes re = k->a.re[source[i]], im = k->a.im[source[i]];
            float pr = crealf(c->phase[l][i]), pi = cimagf(c->phase[l][i]);
            k->b.re[i] = pr * re - pi * im;
            k->b.im[i] = pr * im + pi * re;
        }
        swap(&k->a, &k->b);
        rotations(c, k->a, l);
    }
    for (long i = 0; i < c->size; i++) {
        lanes re = k->a.re[last[i]], im = k->a.im[last[i]];
        k->values[i] = re * re + im * im;
    }
    fold(c, k->values, k->each);
    for (int w = 0; w < n; w++)
        for (int lane = 0; lane < count; lane++) values[lane * n + w] = k->each[w][lane];

    /* cotangent of the state: sum over w of g_w Z_w, applied; its diagonal grows wire by wire like the product */
    lanes *diagonal = k->values;
    diagonal[0] = spread(0);
    long size = 1;
    for (int w = n - 1; w >= 0; w--) {
        lanes g = {0};
        for (int lane = 0; lane < count; lane++) g[lane] = cotangent[lane * n + w];
        for (long i = 0; i < size; i++) {
            diagonal[i + size] = diagonal[i] - g;
            diagonal[i] += g;
        }
        size *= 2;
    }
    for (long i = 0; i < c->size; i++) {
        k->t.re[last[i]] = diagonal[i] * k->a.re[last[i]];
        k->t.im[last[i]] = diagonal[i] * k->a.im[last[i]];
    }
    for (int l = c->n_layers - 1; l >= 1; l--) {
        const float *w = c->weights + l * n * 3;
        float *dw = d_weights + l * n * 3;
        for (int a = 0; a < n; a += 2) {
            int pair = a + 1 < n;
            unrotate(c, k->a, k->t, a, w[a * 3 + 1], pair ? a + 1 : -1, pair ? w[a * 3 + 4] : 0, &dw[a * 3 + 1],
                     pair ? &dw[a * 3 + 4] : NULL);
        }
        const long *source = c->source[l - 1];
        for (long i = 0; i < c->size; i++) {
            lanes re = k->a.re[i], im = k->a.im[i], tre = k->t.re[i], tim = k->t.im[i];
            k->values[i] = tre * im - tim * re;
            float pr = crealf(c->phase[l][i]), pi = cimagf(c->phase[l][i]);
            k->b.re[source[i]] = pr * re + pi * im;
            k->b.im[source[i]] = pr * im - pi * re;
            k->u.re[source[i]] = pr * tre + pi * tim;
            k->u.im[source[i]] = pr * tim - pi * tre;
        }
        if (l > 1) { /* omega of the layer before acts in the frame before the ring */
            lanes *moved = k->t.re;
            for (long i = 0; i < c->size; i++) moved[source[i]] = k->values[i];
            fold(c, moved, k->each);
            for (int v = 0; v < n; v++) d_weights[((l - 1) * n + v) * 3 + 2] += total(k->each[v]);
        }
        fold(c, k->values, k->each);
        for (int v = 0; v < n; v++) dw[v * 3] += total(k->each[v]);
        swap(&k->a, &k->b);
        swap(&k->t, &k->u);
    }
    unproduct(c, k->factors, k->t, k->tail, k->each, d_weights);
    for (int w = 0; w < n; w++)
        for (int lane = 0; lane < count; lane++) d_angles[lane * n + w] = k->each[w][lane];
}

static state allocate_state(long size) { return (state){allocate(size), allocate(size)}; }

/* What does not depend on parameters. It lives as long as the process. */
circuit *create(int n, int n_layers, int threads) {
    circuit *c = malloc(sizeof(circuit));
    *c = (circuit){n, n_layers, threads, 1L << n, NULL, malloc(n_layers * sizeof(long *)),
                   malloc(n_layers * sizeof(float complex *)), malloc((1L << n) * sizeof(float complex)),
                   malloc(threads * sizeof(workspace))};
    for (int l = 0; l < n_layers; l++) {
        c->source[l] = malloc(c->size * sizeof(long));
        c->phase[l] = malloc(c->size * sizeof(float complex));
        ring(c, l, c->source[l]);
    }
    for (int t = 0; t < threads; t++) {
        workspace *k = &c->work[t];
        *k = (workspace){allocate_state(c->size), allocate_state(c->size), allocate_state(c->size), allocate_state(c->size),
                         malloc((n + 1) * sizeof(state)), (wire_factor *)allocate(n * sizeof(wire_factor) / sizeof(lanes)),
                         allocate(c->size), allocate(n), malloc(n_layers * n * 3 * sizeof(float))};
        for (int w = 1; w <= n; w++) k->tail[w] = allocate_state(1L << (n - w));
    }
    return c;
}

/* Expectations (batch, n) and, for a cotangent (batch, n), gradients by angles (batch, n) and weights (n_layers, n, 3). */
void step(circuit *c, int batch, const float *angles, const float *weights, const float *cotangent, float *values,
          float *d_angles, float *d_weights) {
    int n = c->n, blocks = (batch + LANES - 1) / LANES, n_weights = c->n_layers * n * 3;
    set_weights(c, weights);
    for (int t = 0; t < c->threads; t++) memset(c->work[t].d_weights, 0, n_weights * sizeof(float));
#pragma omp parallel for num_threads(c->threads) schedule(static)
    for (int at = 0; at < blocks; at++) {
#ifdef _OPENMP
        workspace *k = &c->work[omp_get_thread_num()];
#else
        workspace *k = c->work;
#endif
        long skip = (long)at * LANES * n;
        int count = batch - at * LANES < LANES ? batch - at * LANES : LANES;
        block(c, k, count, angles + skip, cotangent + skip, values + skip, d_angles + skip);
    }
    memset(d_weights, 0, n_weights * sizeof(float));
    for (int t = 0; t < c->threads; t++)
        for (int i = 0; i < n_weights; i++) d_weights[i] += c->work[t].d_weights[i];
}
