// A 1x1 convolution, a depthwise one and another 1x1, a few rows at a time: the wide maps between them stay in the cache.
// Included by kernels.cpp. The depthwise layer has stride 1 or dilation 1 along each axis; it is computed by phases of its
// dilation, each of which is a dense layer on every d-th row and column.

struct Block {
  const float* x;       // (batch, height, width, c_in)
  float* y;             // (batch, out_height, out_width, c_out)
  const float *expand, *expand_bias;        // (panels, c_in, P), (panels, P); without it hidden = c_in
  const float *depthwise, *depthwise_bias;  // (panels, taps, P), (panels, P)
  const float *project, *project_bias;      // (panels of c_out, hidden, P), (panels of c_out, P)
  float* scratch;
  int64_t batch, height, width, out_height, out_width, c_in, hidden, c_out;
  int64_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, padding_h, padding_w;
  int64_t skip;         // x is added to the result
  int64_t threads;
  float low[3], high[3];  // the results of each convolution are clamped to this range
};

struct InvertedResidual {
  static constexpr int XS = 8;         // outputs of a depthwise row that are computed together
  static constexpr int64_t PIXELS = 16 * MR, CHUNK_FLOATS = 65536;
  const Block& a;
  int64_t panels, out_panels, phases_h, phases_w, phase_rows, columns, pitch, group, slots, segments, hidden_stride,
      spread_stride;

  explicit InvertedResidual(const Block& block)
      : a(block),
        panels((block.hidden + P - 1) / P),
        out_panels((block.c_out + P - 1) / P),
        phases_h(std::min(block.dilation_h, block.out_height)),
        phases_w(std::min(block.dilation_w, block.out_width)),
        phase_rows((block.out_height + block.dilation_h - 1) / block.dilation_h),
        columns((block.out_width + block.dilation_w - 1) / block.dilation_w),
        pitch(((columns + XS - 1) / XS * XS - 1) * block.stride_w + block.kernel_w),
        group(std::min(phase_rows, (PIXELS + columns - 1) / columns)),
        slots((group - 1) * block.stride_h + block.kernel_h) {
    int64_t items = a.batch * phases_h * phases_w;
    int64_t wanted = (4 * a.threads + items - 1) / items, least = (a.threads + items - 1) / items;
    int64_t largest = phase_rows / (12 * std::max<int64_t>(1, a.kernel_h - 1));  // else the rows that two share tell
    segments = std::max<int64_t>(1, std::min(phase_rows, std::max(least, std::min(wanted, largest))));
    hidden_stride = slots * pitch * P;
    spread_stride = (group * columns + std::max(XS, MR)) * P;
  }

  int64_t pointers() const { return 2 * slots * pitch + 2 * (group * columns + MR) + MR; }
  int64_t thread_floats() const {
    int64_t floats = panels * (hidden_stride + spread_stride) + pointers() * int64_t(sizeof(void*) / sizeof(float)) + 16;
    return (floats + 15) / 16 * 16;
  }
  int64_t scratch_floats() const { return a.threads * thread_floats(); }

  struct Buffers {
    float *hidden, *spread;  // (panels, slots, pitch, P), (panels, group * columns, P)
    const float** sources;
    int64_t* places;
    float** targets;
    const float** shortcuts;
  };

  Buffers buffers(float* memory) const {
    Buffers b;
    b.sources = (const float**)memory;
    b.places = (int64_t*)(b.sources + slots * pitch + MR);
    b.targets = (float**)(b.places + slots * pitch);
    b.shortcuts = (const float**)(b.targets + group * columns + MR);
    b.hidden = (float*)(b.shortcuts + group * columns + MR);
    b.spread = b.hidden + panels * hidden_stride;
    return b;
  }

  // Hidden rows [first, last) of a phase, those outside the image as zeros
  void expand(int64_t n, int64_t top, int64_t left, int64_t first, int64_t last, int64_t used, const Buffers& b) const {
    int64_t count = 0;
    const float* image = a.x + n * a.height * a.width * a.c_in;
    for (int64_t j = first; j < last; j++) {
      int64_t row = top + j * a.dilation_h, slot = j % slots;
      for (int64_t q = 0; q < used; q++) {
        int64_t column = left + q * a.dilation_w, place = (slot * pitch + q) * P;
        if (row >= 0 && row < a.height && column >= 0 && column < a.width) {
          b.sources[count] = image + (row * a.width + column) * a.c_in;
          b.places[count++] = place;
        } else {
          for (int64_t p = 0; p < panels; p++) std::memset(b.hidden + p * hidden_stride + place, 0, P * sizeof(float));
        }
      }
    }
    if (!a.expand) {
      for (int64_t p = 0; p < panels; p++)
        for (int64_t t = 0; t < count; t++)
          for (int v = 0; v < NP && p * P + v * VL < a.c_in; v++)
            store(b.hidden + p * hidden_stride + b.places[t] + v * VL,
                  load_some(b.sources[t] + p * P + v * VL, a.c_in - p * P - v * VL));
      return;
    }
    for (int i = 0; count && i < MR; i++) b.sources[count + i] = b.sources[count - 1];  // computed, and not stored
    for (int64_t base = 0; base < count; base += PIXELS)
      for (int64_t p = 0; p < panels; p++) {
        float* hidden = b.hidden + p * hidden_stride;
        for (int64_t t = base; t < std::min(base + PIXELS, count); t += MR) {
          vec sum[MR][NP] = {};
          multiply_taps(b.sources + t, 1, a.expand + p * a.c_in * P, a.c_in, sum);
          for (int i = 0; i < MR && t + i < count; i++)
#pragma GCC unroll 4
            for (int v = 0; v < NP; v++)
              store(hidden + b.places[t + i] + v * VL,
                    clamp(sum[i][v] + load(a.expand_bias + p * P + v * VL), a.low[0], a.high[0]));
        }
      }
  }

  // One row of one panel of the depthwise layer: XS outputs share the loads of the weights and, with stride 1, the input
  template <int KW, int S>
  MEMBER void spread_row(const float* const* rows, int64_t panel, float* out) const {
    const float* weights = a.depthwise + panel * a.kernel_h * KW * P;
    for (int64_t base = 0; base < columns; base += XS)
#pragma GCC unroll 4
      for (int v = 0; v < NP; v++) {
        vec sum[XS], bias = load(a.depthwise_bias + panel * P + v * VL);
#pragma GCC unroll 8
        for (int s = 0; s < XS; s++) sum[s] = bias;
        for (int64_t i = 0; i < a.kernel_h; i++) {
          const float* x = rows[i] + base * S * P + v * VL;
          vec w[KW];
#pragma GCC unroll 8
          for (int j = 0; j < KW; j++) w[j] = load(weights + (i * KW + j) * P + v * VL);
#pragma GCC unroll 32
          for (int q = 0; q < (XS - 1) * S + KW; q++) {
            vec value = load(x + q * P);
#pragma GCC unroll 8
            for (int j = 0; j < KW; j++)
              if (q >= j && (q - j) % S == 0 && (q - j) / S < XS) sum[(q - j) / S] += w[j] * value;
          }
        }
#pragma GCC unroll 8
        for (int s = 0; s < XS; s++) store(out + (base + s) * P + v * VL, clamp(sum[s], a.low[1], a.high[1]));
      }
  }

  template <int KW, int S>
  void spread(int64_t first, int64_t count, const Buffers& b) const {
    const float* rows[16];
    for (int64_t p = 0; p < panels; p++)
      for (int64_t g = 0; g < count; g++) {
        for (int64_t i = 0; i < a.kernel_h; i++)
          rows[i] = b.hidden + p * hidden_stride + ((first + g) * a.stride_h + i) % slots * pitch * P;
        spread_row<KW, S>(rows, p, b.spread + p * spread_stride + g * columns * P);  // the next row overwrites the excess
      }
  }

  void project(int64_t count, const Buffers& b) const {
    int64_t chunk = std::max<int64_t>(1, std::min(PIXELS, CHUNK_FLOATS / a.hidden) / MR) * MR;
    for (int64_t base = 0; base < count; base += chunk)
      for (int64_t o = 0; o < out_panels; o++) {
        int64_t channels = std::min<int64_t>(P, a.c_out - o * P);
        for (int64_t t = base; t < std::min(base + chunk, count); t += MR) {
          vec sum[MR][NP] = {};
          const float *v = b.spread + t * P, *u = a.project + o * a.hidden * P;
          for (int64_t h = 0; h < a.hidden; h += P, v += spread_stride)
            for (int64_t k = 0; k < std::min<int64_t>(P, a.hidden - h); k++, u += P) {
              vec w[NP];
#pragma GCC unroll 4
              for (int p = 0; p < NP; p++) w[p] = load(u + p * VL);
#pragma GCC unroll 12
              for (int i = 0; i < MR; i++) {
                vec factor = splat(v[i * P + k]);
#pragma GCC unroll 4
                for (int p = 0; p < NP; p++) sum[i][p] += factor * w[p];
              }
            }
          for (int i = 0; i < MR && t + i < count; i++) {
            if (!b.targets[t + i]) continue;  // a column that this phase lacks
            for (int p = 0; p < NP && p * VL < channels; p++) {
              vec value = clamp(sum[i][p] + load(a.project_bias + o * P + p * VL), a.low[2], a.high[2]);
              int64_t some = channels - p * VL;
              if (a.skip) value += load_some(b.shortcuts[t + i] + o * P + p * VL, some);
              store_some(b.targets[t + i] + o * P + p * VL, value, some);
            }
          }
        }
      }
  }

  // Output rows [start, stop) of a phase, counted in it
  template <int KW, int S>
  void rows(int64_t n, int64_t phase_h, int64_t phase_w, int64_t start, int64_t stop, const Buffers& b) const {
    int64_t top = phase_h - a.padding_h, left = phase_w - a.padding_w, computed = start * a.stride_h;
    int64_t used = (columns - 1) * S + KW;
    for (int64_t first = start; first < stop; first += group) {
      int64_t count = std::min(group, stop - first), last = (first + count - 1) * a.stride_h + a.kernel_h;
      computed = std::max(computed, first * a.stride_h);
      expand(n, top, left, computed, last, used, b);
      computed = last;
      spread<KW, S>(first, count, b);
      for (int64_t g = 0; g < count; g++)
        for (int64_t c = 0; c < columns; c++) {
          int64_t row = phase_h + (first + g) * a.dilation_h, column = phase_w + c * a.dilation_w;
          int64_t pixel = (n * a.out_height + row) * a.out_width + column;
          b.targets[g * columns + c] = column < a.out_width ? a.y + pixel * a.c_out : nullptr;
          b.shortcuts[g * columns + c] = a.x + pixel * a.c_in;
        }
      project(count * columns, b);
    }
  }

  template <int KW, int S>
  void run() const {
#pragma omp parallel for schedule(dynamic, 1) collapse(4) num_threads(a.threads)
    for (int64_t n = 0; n < a.batch; n++)
      for (int64_t phase_h = 0; phase_h < phases_h; phase_h++)
        for (int64_t phase_w = 0; phase_w < phases_w; phase_w++)
          for (int64_t s = 0; s < segments; s++) {
            int64_t count = (a.out_height - phase_h + a.dilation_h - 1) / a.dilation_h;
            rows<KW, S>(n, phase_h, phase_w, count * s / segments, count * (s + 1) / segments,
                        buffers(a.scratch + thread() * thread_floats()));
          }
  }
};
