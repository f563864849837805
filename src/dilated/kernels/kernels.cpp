// Convolutions of channels-last float maps: Winograd by phases of the dilation, direct, and depthwise.
// Compiled on demand by native.py; `transforms.h` is generated there from the rational transforms of winograd.py.
// The vector width is that of the machine (-march=native); everything else is plain C++17.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__AVX512F__)
constexpr int VL = 16, NP = 2, MR = 12;  // floats per vector, vectors per panel, tiles per product kernel
#elif defined(__AVX__)
constexpr int VL = 8, NP = 2, MR = 6;
#else
constexpr int VL = 4, NP = 4, MR = 4;
#endif
constexpr int P = VL * NP;  // output channels of a panel

typedef float vec __attribute__((vector_size(VL * sizeof(float))));
typedef float loose __attribute__((vector_size(VL * sizeof(float)), aligned(4), may_alias));

#define MEMBER inline __attribute__((always_inline))
#define INLINE static MEMBER

INLINE vec load(const float* p) { return *(const loose*)p; }
INLINE void store(float* p, vec v) { *(loose*)p = v; }
INLINE vec splat(float a) { return a - vec{}; }

INLINE vec load_some(const float* p, int64_t count) {
  if (count >= VL) return load(p);
  float buffer[VL] = {};
  std::memcpy(buffer, p, count * sizeof(float));
  return load(buffer);
}

INLINE void store_some(float* p, vec v, int64_t count) {
  if (count >= VL) return store(p, v);
  float buffer[VL];
  store(buffer, v);
  std::memcpy(p, buffer, count * sizeof(float));
}

#include "transforms.h"

#ifdef _OPENMP
#include <omp.h>
INLINE int thread() { return omp_get_thread_num(); }
#else
INLINE int thread() { return 0; }
#endif

struct Layer {
  const float* x;     // (batch, height, width, groups * c_in)
  float* y;           // (batch, out_height, out_width, groups * c_out)
  const float* u;     // Winograd: (groups, points, panels, c_in, P); direct: (groups, panels, taps, c_in, P);
                      // depthwise: (taps, groups)
  const float* bias;  // (groups * c_out,) or null
  float* scratch;
  int64_t batch, height, width, out_height, out_width, groups, c_in, c_out;  // channels of one group
  int64_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, padding_h, padding_w;
  int64_t chunk;      // tiles transformed at a time, a multiple of MR
  int64_t block;      // output channels multiplied at a time, a multiple of P
  int64_t shared;     // threads share the tiles and split the output channels; otherwise they split the tiles
  int64_t threads;
  float low, high;    // results are clamped to this range
};

INLINE vec clamp(vec v, float low, float high) {  // NaN stays NaN
  vec l = splat(low), h = splat(high);
  v = v < l ? l : v;
  return v > h ? h : v;
}

// Tiles along one axis: those of phase 0, then phase 1, ...
struct Axis {
  int64_t dilation, tile, size, count;
  Axis(int64_t dilation_, int64_t tile_, int64_t size_) : dilation(dilation_), tile(tile_), size(size_), count(0) {
    for (int64_t p = 0; p < dilation && p < size; p++) count += in_phase(p);
  }
  int64_t in_phase(int64_t phase) const {
    int64_t outputs = (size - phase + dilation - 1) / dilation;
    return (outputs + tile - 1) / tile;
  }
  int64_t start(int64_t index) const {  // the first output of a tile
    for (int64_t p = 0;; p++) {
      int64_t tiles = in_phase(p);
      if (index < tiles) return p + index * tile * dilation;
      index -= tiles;
    }
  }
};

template <class H, class W, bool SOME>
INLINE void input_vector(const float* const* pixels, int64_t c, int64_t count, float* v, int64_t stride) {
  vec rows[H::n][W::n];
  for (int k = 0; k < W::n; k++) {
    vec d[H::n], o[H::n];
    for (int i = 0; i < H::n; i++) {
      const float* p = pixels[i * W::n + k] + c;
      d[i] = SOME ? load_some(p, count) : load(p);
    }
    H::input(d, o);
    for (int i = 0; i < H::n; i++) rows[i][k] = o[i];
  }
  for (int i = 0; i < H::n; i++) {
    vec o[W::n];
    W::input(rows[i], o);
    for (int j = 0; j < W::n; j++) store(v + (i * W::n + j) * stride + c, o[j]);
  }
}

template <class H, class W, bool SOME>
INLINE void output_vector(const float* m, int64_t stride, vec bias, const Layer& a, float* const* pixels, int64_t c,
                          int64_t count) {
  vec rows[H::m][W::n];
  for (int k = 0; k < W::n; k++) {
    vec d[H::n], o[H::m];
    for (int i = 0; i < H::n; i++) d[i] = load(m + (i * W::n + k) * stride);
    H::output(d, o);
    for (int i = 0; i < H::m; i++) rows[i][k] = o[i];
  }
  for (int i = 0; i < H::m; i++) {
    vec o[W::m];
    W::output(rows[i], o);
    for (int j = 0; j < W::m; j++) {
      float* p = pixels[i * W::m + j];
      if (!p) continue;
      vec value = clamp(o[j] + bias, a.low, a.high);
      if (SOME) store_some(p + c, value, count);
      else store(p + c, value);
    }
  }
}

// m[i, :] = sum over k of v[i, k] * u[k, :], for MR tiles and one panel of output channels
INLINE void multiply(const float* v, int64_t v_stride, const float* u, int64_t c_in, float* m, int64_t m_stride) {
  vec sum[MR][NP] = {};
  for (int64_t k = 0; k < c_in; k++) {
    vec b[NP];
#pragma GCC unroll 4
    for (int p = 0; p < NP; p++) b[p] = load(u + k * P + p * VL);
#pragma GCC unroll 12
    for (int i = 0; i < MR; i++) {
      vec a = splat(v[i * v_stride + k]);
#pragma GCC unroll 4
      for (int p = 0; p < NP; p++) sum[i][p] += a * b[p];
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
    for (int p = 0; p < NP; p++) store(m + i * m_stride + p * VL, sum[i][p]);
}

template <class H, class W>
struct Winograd {
  static constexpr int points = H::n * W::n;
  const Layer& a;
  Axis rows, columns;
  int64_t tiles, panels, c_padded, v_stride, m_stride, m_floats;

  explicit Winograd(const Layer& layer)
      : a(layer),
        rows(layer.dilation_h, H::m, layer.out_height),
        columns(layer.dilation_w, W::m, layer.out_width),
        tiles(layer.batch * rows.count * columns.count),
        panels((layer.c_out + P - 1) / P),
        c_padded((layer.c_in + 15) / 16 * 16 + 16),       // one line more: rows of 2^n bytes would share cache sets
        v_stride(layer.chunk * c_padded + 16),
        m_stride(layer.chunk * layer.block + 16),
        m_floats(points * m_stride) {}

  int64_t scratch_floats() const {
    return points * v_stride + m_floats * (a.shared ? a.threads : 1) + a.groups * a.c_in + VL;
  }

  void input(int64_t g, int64_t tile, float* v, const float* zeros) const {
    int64_t channels = a.groups * a.c_in;
    int64_t n = tile / (rows.count * columns.count), rest = tile % (rows.count * columns.count);
    int64_t top = rows.start(rest / columns.count) - a.padding_h;
    int64_t left = columns.start(rest % columns.count) - a.padding_w;
    const float* pixels[points];
    const float* image = a.x + n * a.height * a.width * channels + g * a.c_in;
    for (int i = 0; i < H::n; i++) {
      int64_t row = top + i * a.dilation_h;
      for (int j = 0; j < W::n; j++) {
        int64_t column = left + j * a.dilation_w;
        bool inside = row >= 0 && row < a.height && column >= 0 && column < a.width;
        pixels[i * W::n + j] = inside ? image + (row * a.width + column) * channels : zeros;
      }
    }
    int64_t c = 0;
    for (; c + VL <= a.c_in; c += VL) input_vector<H, W, false>(pixels, c, VL, v, v_stride);
    if (c < a.c_in) input_vector<H, W, true>(pixels, c, a.c_in - c, v, v_stride);
  }

  void output(int64_t g, int64_t tile, int64_t first, int64_t channels, const float* m) const {
    int64_t n = tile / (rows.count * columns.count), rest = tile % (rows.count * columns.count);
    int64_t top = rows.start(rest / columns.count), left = columns.start(rest % columns.count);
    int64_t all = a.groups * a.c_out, offset = g * a.c_out + first;
    float* pixels[H::m * W::m];
    for (int i = 0; i < H::m; i++)
      for (int j = 0; j < W::m; j++) {
        int64_t row = top + i * a.dilation_h, column = left + j * a.dilation_w;
        pixels[i * W::m + j] = row < a.out_height && column < a.out_width
                                   ? a.y + ((n * a.out_height + row) * a.out_width + column) * all + offset
                                   : nullptr;
      }
    const float* bias = a.bias ? a.bias + offset : nullptr;
    int64_t c = 0;
    for (; c + VL <= channels; c += VL)
      output_vector<H, W, false>(m + c, m_stride, bias ? load(bias + c) : vec{}, a, pixels, c, VL);
    if (c < channels)
      output_vector<H, W, true>(m + c, m_stride, bias ? load_some(bias + c, channels - c) : vec{}, a, pixels, c,
                                channels - c);
  }

  // Products and output transform of output channels [first, first + block) of `count` tiles
  void channels(int64_t g, int64_t tile, int64_t count, int64_t first, const float* v, float* m) const {
    int64_t last = std::min(first + a.block, a.c_out);
    for (int64_t xi = 0; xi < points; xi++)
      for (int64_t o = first; o < last; o += P) {
        const float* u = a.u + ((g * points + xi) * panels + o / P) * a.c_in * P;
        for (int64_t t = 0; t < count; t += MR)
          multiply(v + xi * v_stride + t * c_padded, c_padded, u, a.c_in, m + xi * m_stride + t * a.block + o - first,
                   a.block);
      }
    for (int64_t t = 0; t < count; t++) output(g, tile + t, first, last - first, m + t * a.block);
  }

  void run() const {
    int64_t floats = scratch_floats(), blocks = (a.c_out + a.block - 1) / a.block;
    int64_t chunks = (tiles + a.chunk - 1) / a.chunk;
    if (a.shared) {
      float *v = a.scratch, *m = v + points * v_stride, *zeros = m + m_floats * a.threads;
      std::memset(a.scratch, 0, floats * sizeof(float));
      for (int64_t g = 0; g < a.groups; g++)
        for (int64_t k = 0; k < chunks; k++) {
          int64_t tile = k * a.chunk, count = std::min(a.chunk, tiles - tile);
#pragma omp parallel num_threads(a.threads)
          {
#pragma omp for schedule(dynamic, 1)
            for (int64_t t = 0; t < count; t++) input(g, tile + t, v + t * c_padded, zeros);
#pragma omp for schedule(dynamic, 1)
            for (int64_t b = 0; b < blocks; b++) channels(g, tile, count, b * a.block, v, m + m_floats * thread());
          }
        }
    } else {
#pragma omp parallel num_threads(a.threads)
      {
        float *v = a.scratch + thread() * floats, *m = v + points * v_stride, *zeros = m + m_floats;
        std::memset(v, 0, floats * sizeof(float));
#pragma omp for schedule(dynamic, 1) collapse(2)
        for (int64_t k = 0; k < chunks; k++)
          for (int64_t g = 0; g < a.groups; g++) {
            int64_t tile = k * a.chunk, count = std::min(a.chunk, tiles - tile);
            for (int64_t t = 0; t < count; t++) input(g, tile + t, v + t * c_padded, zeros);
            for (int64_t b = 0; b < blocks; b++) channels(g, tile, count, b * a.block, v, m);
          }
      }
    }
  }

};

// sum over taps and channels of row i of v times one panel of u, for MR output pixels
INLINE void multiply_taps(const float* const* v, int64_t taps, const float* u, int64_t c_in, vec sum[MR][NP]) {
  for (int64_t tap = 0; tap < taps; tap++, v += MR, u += c_in * P)
    for (int64_t k = 0; k < c_in; k++) {
      vec b[NP];
#pragma GCC unroll 4
      for (int p = 0; p < NP; p++) b[p] = load(u + k * P + p * VL);
#pragma GCC unroll 12
      for (int i = 0; i < MR; i++) {
        vec factor = splat(v[i][k]);
#pragma GCC unroll 4
        for (int p = 0; p < NP; p++) sum[i][p] += factor * b[p];
      }
    }
}

#include "inverted_residual.h"

struct Direct {
  const Layer& a;
  int64_t pixels, panels, taps, steps;  // steps: groups of MR output pixels that share a block's weights

  explicit Direct(const Layer& layer)
      : a(layer),
        pixels(layer.batch * layer.out_height * layer.out_width),
        panels((layer.c_out + P - 1) / P),
        taps(layer.kernel_h * layer.kernel_w),
        steps(std::max<int64_t>(1, layer.chunk / MR)) {}

  int64_t pointer_floats() const { return (steps * taps * MR * sizeof(float*) + 3) / sizeof(float); }
  int64_t scratch_floats() const { return a.threads * pointer_floats() + a.groups * a.c_in + VL; }

  // Where each tap of an output pixel reads
  void gather(int64_t g, int64_t pixel, const float** v, const float* zeros) const {
    int64_t channels = a.groups * a.c_in, column = pixel % a.out_width, row = pixel / a.out_width % a.out_height;
    const float* image = a.x + pixel / (a.out_width * a.out_height) * a.height * a.width * channels + g * a.c_in;
    for (int64_t i = 0; i < a.kernel_h; i++)
      for (int64_t j = 0; j < a.kernel_w; j++) {
        int64_t y = row * a.stride_h - a.padding_h + i * a.dilation_h;
        int64_t x = column * a.stride_w - a.padding_w + j * a.dilation_w;
        bool inside = y >= 0 && y < a.height && x >= 0 && x < a.width;
        v[(i * a.kernel_w + j) * MR] = inside ? image + (y * a.width + x) * channels : zeros;
      }
  }

  void rows(int64_t g, int64_t first, const float** v, const float* zeros) const {
    int64_t count = std::min(steps * MR, pixels - first), used = (count + MR - 1) / MR;
    for (int64_t i = 0; i < used * MR; i++)  // beyond the last pixel it is repeated, and not stored
      gather(g, first + std::min(i, count - 1), v + i / MR * taps * MR + i % MR, zeros);
    for (int64_t o = 0; o < panels; o++) {
      const float* u = a.u + (g * panels + o) * taps * a.c_in * P;
      int64_t channels = std::min<int64_t>(P, a.c_out - o * P), offset = g * a.c_out + o * P;
      vec bias[NP];
      for (int p = 0; p < NP; p++)
        bias[p] = a.bias && p * VL < channels ? load_some(a.bias + offset + p * VL, channels - p * VL) : vec{};
      for (int64_t s = 0; s < used; s++) {
        vec sum[MR][NP] = {};
        multiply_taps(v + s * taps * MR, taps, u, a.c_in, sum);
        for (int i = 0; i < MR && s * MR + i < count; i++) {
          float* y = a.y + (first + s * MR + i) * a.groups * a.c_out + offset;
#pragma GCC unroll 4
          for (int p = 0; p < NP; p++)
            if (p * VL < channels) store_some(y + p * VL, clamp(sum[i][p] + bias[p], a.low, a.high), channels - p * VL);
        }
      }
    }
  }

  void run() const {
    float* zeros = a.scratch + a.threads * pointer_floats();
    std::memset(zeros, 0, (a.groups * a.c_in + VL) * sizeof(float));
    int64_t blocks = (pixels + steps * MR - 1) / (steps * MR);
#pragma omp parallel for schedule(dynamic, 1) collapse(2) num_threads(a.threads)
    for (int64_t g = 0; g < a.groups; g++)
      for (int64_t b = 0; b < blocks; b++)
        rows(g, b * steps * MR, (const float**)(a.scratch + thread() * pointer_floats()), zeros);
  }
};

// One channel in, one out: each group of a depthwise layer. XS output pixels of a row share the loads of the weights.
struct Depthwise {
  const Layer& a;
  static constexpr int XS = 4;

  template <int COUNT, bool SOME>
  MEMBER void pixels(const float* const* v, const float* u, int64_t taps, int64_t c, int64_t some, float* y) const {
    int64_t channels = a.groups;
    vec first = !a.bias ? vec{} : SOME ? load_some(a.bias + c, some) : load(a.bias + c), sum[COUNT];
    for (int i = 0; i < COUNT; i++) sum[i] = first;
    for (int64_t tap = 0; tap < taps; tap++) {
      vec w = SOME ? load_some(u + tap * channels + c, some) : load(u + tap * channels + c);
#pragma GCC unroll 4
      for (int i = 0; i < COUNT; i++) {
        const float* p = v[tap * XS + i] + c;
        sum[i] += w * (SOME ? load_some(p, some) : load(p));
      }
    }
    for (int i = 0; i < COUNT; i++) {
      vec value = clamp(sum[i], a.low, a.high);
      if (SOME) store_some(y + i * channels + c, value, some);
      else store(y + i * channels + c, value);
    }
  }

  template <int COUNT>
  MEMBER void columns(const float* const* v, int64_t taps, float* y) const {
    int64_t c = 0;
    for (; c + VL <= a.groups; c += VL) pixels<COUNT, false>(v, a.u, taps, c, VL, y);
    if (c < a.groups) pixels<COUNT, true>(v, a.u, taps, c, a.groups - c, y);
  }

  // Outputs that are a dilation apart share the loads of the input, too: a row of the kernel at a time, in registers.
  template <int KW, bool SOME>
  MEMBER void spaced(const float* const* v, int64_t c, int64_t some, float* const* y) const {
    vec first = !a.bias ? vec{} : SOME ? load_some(a.bias + c, some) : load(a.bias + c), sum[XS];
    for (int s = 0; s < XS; s++) sum[s] = first;
    for (int64_t i = 0; i < a.kernel_h; i++) {
      const float* const* row = v + i * (KW + XS - 1);
      if (!row[0]) continue;  // beyond the image
      vec x[KW + XS - 1];
#pragma GCC unroll 16
      for (int q = 0; q < KW + XS - 1; q++) x[q] = SOME ? load_some(row[q] + c, some) : load(row[q] + c);
#pragma GCC unroll 16
      for (int j = 0; j < KW; j++) {
        const float* u = a.u + (i * KW + j) * a.groups + c;
        vec w = SOME ? load_some(u, some) : load(u);
#pragma GCC unroll 4
        for (int s = 0; s < XS; s++) sum[s] += w * x[j + s];
      }
    }
    for (int s = 0; s < XS; s++)
      if (y[s]) {
        vec value = clamp(sum[s], a.low, a.high);
        if (SOME) store_some(y[s] + c, value, some);
        else store(y[s] + c, value);
      }
  }

  // Output rows [top, bottom) of an image, channels [c, c + count)
  template <int KW>
  void spaced_rows(int64_t n, int64_t top, int64_t bottom, int64_t first, int64_t count, const float** v,
                   const float* zeros) const {
    constexpr int COLUMNS = KW + XS - 1;
    int64_t channels = a.groups, d = a.dilation_w;
    const float* image = a.x + n * a.height * a.width * channels;
    for (int64_t row = top; row < bottom; row++)
      for (int64_t phase = 0; phase < d && phase < a.out_width; phase++)
        for (int64_t left = phase; left < a.out_width; left += XS * d) {
          float* y[XS];
          for (int s = 0; s < XS; s++) {
            int64_t column = left + s * d;
            y[s] = column < a.out_width ? a.y + ((n * a.out_height + row) * a.out_width + column) * channels : nullptr;
          }
          for (int64_t i = 0; i < a.kernel_h; i++) {
            int64_t r = row - a.padding_h + i * a.dilation_h;
            bool inside = r >= 0 && r < a.height;
            for (int q = 0; q < COLUMNS; q++) {
              int64_t column = left - a.padding_w + q * d;
              v[i * COLUMNS + q] = !inside ? nullptr
                                   : column >= 0 && column < a.width ? image + (r * a.width + column) * channels
                                                                     : zeros;
            }
          }
          int64_t c = first, last = first + count;
          for (; c + VL <= last; c += VL) spaced<KW, false>(v, c, VL, y);
          if (c < last) spaced<KW, true>(v, c, last - c, y);
        }
  }

  int64_t pointer_floats() const { return (a.kernel_h * (a.kernel_w + 1) * XS * sizeof(float*) + 3) / sizeof(float); }
  int64_t scratch_floats() const { return a.threads * pointer_floats() + a.groups + VL; }

  void row(int64_t index, const float** v, const float* zeros) const {
    int64_t channels = a.groups, taps = a.kernel_h * a.kernel_w, row = index % a.out_height;
    const float* image = a.x + index / a.out_height * a.height * a.width * channels;
    float* y = a.y + index * a.out_width * channels;
    for (int64_t column = 0; column < a.out_width; column += XS) {
      int64_t count = std::min<int64_t>(XS, a.out_width - column);
      for (int64_t i = 0; i < a.kernel_h; i++)
        for (int64_t j = 0; j < a.kernel_w; j++)
          for (int64_t s = 0; s < count; s++) {
            int64_t r = row * a.stride_h - a.padding_h + i * a.dilation_h;
            int64_t q = (column + s) * a.stride_w - a.padding_w + j * a.dilation_w;
            bool inside = r >= 0 && r < a.height && q >= 0 && q < a.width;
            v[(i * a.kernel_w + j) * XS + s] = inside ? image + (r * a.width + q) * channels : zeros;
          }
      if (count == XS) columns<XS>(v, taps, y + column * channels);
      else
        for (int64_t s = 0; s < count; s++) columns<1>(v + s, taps, y + (column + s) * channels);
    }
  }

  void run() const {
    float* zeros = a.scratch + a.threads * pointer_floats();
    std::memset(zeros, 0, (a.groups + VL) * sizeof(float));
    bool unit = a.stride_h == 1 && a.stride_w == 1;
    if (unit && (a.kernel_w == 3 || a.kernel_w == 5 || a.kernel_w == 7)) {
      constexpr int64_t ROWS = 16, CHANNELS = 256;  // few enough that the rows of a kernel stay in the cache
      int64_t bands = (a.out_height + ROWS - 1) / ROWS, parts = (a.groups + CHANNELS - 1) / CHANNELS;
#pragma omp parallel for schedule(dynamic, 1) collapse(3) num_threads(a.threads)
      for (int64_t n = 0; n < a.batch; n++)
        for (int64_t band = 0; band < bands; band++)
          for (int64_t part = 0; part < parts; part++) {
            const float** v = (const float**)(a.scratch + thread() * pointer_floats());
            int64_t top = band * ROWS, bottom = std::min(top + ROWS, a.out_height), first = part * CHANNELS;
            int64_t count = std::min(CHANNELS, a.groups - first);
            if (a.kernel_w == 3) spaced_rows<3>(n, top, bottom, first, count, v, zeros);
            else if (a.kernel_w == 5) spaced_rows<5>(n, top, bottom, first, count, v, zeros);
            else spaced_rows<7>(n, top, bottom, first, count, v, zeros);
          }
      return;
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads(a.threads)
    for (int64_t index = 0; index < a.batch * a.out_height; index++)
      row(index, (const float**)(a.scratch + thread() * pointer_floats()), zeros);
  }
};

#include "depthwise_gradient.h"

// Bilinear up-sampling and argmax over the classes, a row at a time; the first of equal classes wins, NaN never does.
struct Labels {
  const float* logits;              // (batch, classes, height, width)
  void* labels;                     // (batch, out_height, out_width), uint8_t of up to 255 classes, else int32_t
  const int64_t *rows, *columns;    // the sample before each output
  const float *row_weights, *column_weights;  // of the sample after it
  int64_t batch, classes, height, width, out_height, out_width, threads;
};

INLINE float lerp(float a, float b, float w) { return w < 0.5f ? a + w * (b - a) : b - (b - a) * (1.0f - w); }

INLINE vec lerp(vec a, vec b, vec w) {
  vec difference = b - a;
  return w < splat(0.5f) ? a + w * difference : b - difference * (splat(1.0f) - w);
}

#include "upsample.h"

template <typename Label>
static void label_rows(const Labels& a, int64_t first, int64_t last) {
  int64_t wide = a.out_width;
  std::vector<float> buffer(2 * a.classes * wide + wide);
  std::vector<Label> label(wide);
  float* best = buffer.data() + 2 * a.classes * wide;
  int64_t held[2] = {-1, -1};  // the rows of logits that are interpolated along the columns, in slots
  for (int64_t index = first; index < last; index++) {
    int64_t n = index / a.out_height, y = index % a.out_height;
    int64_t rows[2] = {n * a.height + a.rows[y], n * a.height + std::min(a.rows[y] + 1, a.height - 1)};
    const float* source[2];
    for (int k = 0; k < 2; k++) {
      int slot = int(rows[k] % 2);
      source[k] = buffer.data() + slot * a.classes * wide;
      if (held[slot] == rows[k]) continue;
      held[slot] = rows[k];
      for (int64_t c = 0; c < a.classes; c++) {
        const float* samples = a.logits + ((n * a.classes + c) * a.height + rows[k] - n * a.height) * a.width;
        float* out = buffer.data() + (slot * a.classes + c) * wide;
        for (int64_t x = 0; x < wide; x++) {
          int64_t q = a.columns[x];
          out[x] = lerp(samples[q], samples[std::min(q + 1, a.width - 1)], a.column_weights[x]);
        }
      }
    }
    float w = a.row_weights[y];
    std::fill(best, best + wide, -INFINITY);
    std::fill(label.begin(), label.end(), 0);
    for (int64_t c = 0; c < a.classes; c++) {
      const float *top = source[0] + c * wide, *bottom = source[1] + c * wide;
      for (int64_t x = 0; x < wide; x++) {
        float value = lerp(top[x], bottom[x], w);
        bool better = value > best[x];
        best[x] = better ? value : best[x];
        label[x] = better ? Label(c) : label[x];
      }
    }
    std::memcpy((Label*)a.labels + index * wide, label.data(), wide * sizeof(Label));
  }
}

extern "C" {

// Ask for large pages where memory has not been touched yet: clearing small ones costs as much as filling them.
void dilated_use_large_pages(void* memory, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t PAGE = 1 << 21;
  uintptr_t start = ((uintptr_t)memory + PAGE - 1) / PAGE * PAGE, end = ((uintptr_t)memory + bytes) / PAGE * PAGE;
  if (end > start) madvise((void*)start, end - start, MADV_HUGEPAGE);  // refused: small pages serve as well
#endif
}

void dilated_labels(const Labels* a) {
  constexpr int64_t BAND = 32;
  int64_t rows = a->batch * a->out_height, bands = (rows + BAND - 1) / BAND;
  auto label = a->classes <= 255 ? label_rows<uint8_t> : label_rows<int32_t>;
#pragma omp parallel for schedule(dynamic, 1) num_threads(a->threads)
  for (int64_t b = 0; b < bands; b++) label(*a, b * BAND, std::min(rows, (b + 1) * BAND));
}

void dilated_upsample(const Upsample* a) {
#pragma omp parallel for schedule(dynamic, 4) num_threads(a->threads)
  for (int64_t index = 0; index < a->batch * a->out_height; index++) upsample_row(*a, index);
}

void dilated_mask(const Mask* mask) { mask->run(); }
void dilated_depthwise_input(const Layer* layer) { DepthwiseInput{*layer}.run(); }
void dilated_depthwise_weight(const Layer* layer) { DepthwiseWeight{*layer}.run(); }

int64_t dilated_panel() { return P; }
int64_t dilated_rows() { return MR; }

// Each takes a layer and gives the floats of scratch memory that it needs; with `run`, it uses them.
int64_t dilated_direct(const Layer* layer, int64_t run) {
  if (run) Direct(*layer).run();
  return Direct(*layer).scratch_floats();
}

int64_t dilated_depthwise(const Layer* layer, int64_t run) {
  if (run) Depthwise{*layer}.run();
  return Depthwise{*layer}.scratch_floats();
}

// -1 where no such depthwise layer is compiled in.
int64_t dilated_inverted_residual(const Block* block, int64_t run) {
  InvertedResidual residual(*block);
#define CASE(KW, S)                                          \
  if (block->kernel_w == KW && block->stride_w == S) {       \
    if (run) residual.run<KW, S>();                          \
    return residual.scratch_floats();                        \
  }
  CASE(3, 1) CASE(3, 2) CASE(5, 1) CASE(5, 2) CASE(7, 1) CASE(7, 2)
#undef CASE
  return -1;
}

// -1 where the transforms of these tiles are not compiled in.
int64_t dilated_winograd(const Layer* layer, int64_t run, int64_t tile_h, int64_t tile_w) {
#define CASE(H, W)                                                                                                 \
  if (tile_h == H::m && layer->kernel_h == H::r && tile_w == W::m && layer->kernel_w == W::r) {                     \
    Winograd<H, W> winograd(*layer);                                                                               \
    if (run) winograd.run();                                                                                       \
    return winograd.scratch_floats() * (layer->shared ? 1 : layer->threads);                                       \
  }
  TRANSFORM_PAIRS(CASE)
#undef CASE
  return -1;
}

}  // extern "C"
