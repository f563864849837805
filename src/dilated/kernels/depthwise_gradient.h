// Gradients of a depthwise convolution of channels-last maps. Included by kernels.cpp.
// Each sum is taken in one order, whatever the number of threads.

// Masks a gradient where a clamp held its output back, and adds it up over the pixels: the gradient of the bias.
struct Mask {
  const float *gradient, *y;  // (pixels, channels); y is what the clamp gave
  float *masked, *sums;       // (pixels, channels) or null, (channels,)
  int64_t pixels, channels, threads;
  float low, high;

  void part(int64_t first, int64_t last) const {
    constexpr int64_t BAND = 64;  // rows of sums that are added up first: fewer roundings
    std::vector<float> band(last - first), total(last - first);
    for (int64_t start = 0; start < pixels; start += BAND) {
      std::fill(band.begin(), band.end(), 0.0f);
      for (int64_t p = start; p < std::min(pixels, start + BAND); p++) {
        const float* g = gradient + p * channels;
        const float* value = y + p * channels;
        float* out = masked + p * channels;
        int64_t c = first;
        for (; c + VL <= last; c += VL) {
          vec v = load(g + c);
          if (masked) {
            vec at = load(value + c);
            v = at <= splat(low) ? vec{} : v;
            v = at >= splat(high) ? vec{} : v;
            store(out + c, v);
          }
          store(&band[c - first], load(&band[c - first]) + v);
        }
        for (; c < last; c++) {
          float v = masked && (value[c] <= low || value[c] >= high) ? 0.0f : g[c];
          if (masked) out[c] = v;
          band[c - first] += v;
        }
      }
      for (int64_t c = 0; c < last - first; c++) total[c] += band[c];
    }
    std::copy(total.begin(), total.end(), sums + first);
  }

  void run() const {
    constexpr int64_t PART = 256;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t first = 0; first < channels; first += PART) part(first, std::min(channels, first + PART));
  }
};

// The gradient of the input: layer.x is the output's, layer.y the input's, layer.u the weights (taps, groups).
struct DepthwiseInput {
  const Layer& a;

  void row(int64_t n, int64_t r, const float** g, const float** w) const {
    int64_t channels = a.groups;
    const float* image = a.x + n * a.out_height * a.out_width * channels;
    for (int64_t q = 0; q < a.width; q++) {
      int64_t taps = 0;
      for (int64_t i = 0; i < a.kernel_h; i++) {
        int64_t y = r + a.padding_h - i * a.dilation_h;
        if (y < 0 || y % a.stride_h || y / a.stride_h >= a.out_height) continue;
        for (int64_t j = 0; j < a.kernel_w; j++) {
          int64_t x = q + a.padding_w - j * a.dilation_w;
          if (x < 0 || x % a.stride_w || x / a.stride_w >= a.out_width) continue;
          g[taps] = image + (y / a.stride_h * a.out_width + x / a.stride_w) * channels;
          w[taps++] = a.u + (i * a.kernel_w + j) * channels;
        }
      }
      float* out = a.y + ((n * a.height + r) * a.width + q) * channels;
      int64_t c = 0;
      for (; c + VL <= channels; c += VL) {
        vec sum = {};
        for (int64_t t = 0; t < taps; t++) sum += load(g[t] + c) * load(w[t] + c);
        store(out + c, sum);
      }
      for (; c < channels; c++) {
        float sum = 0;
        for (int64_t t = 0; t < taps; t++) sum += g[t][c] * w[t][c];
        out[c] = sum;
      }
    }
  }

  void run() const {
#pragma omp parallel num_threads(a.threads)
    {
      std::vector<const float*> g(a.kernel_h * a.kernel_w), w(a.kernel_h * a.kernel_w);
#pragma omp for schedule(dynamic, 4)
      for (int64_t index = 0; index < a.batch * a.height; index++)
        row(index / a.height, index % a.height, g.data(), w.data());
    }
  }
};

// The gradient of the weights: layer.x is the input, layer.u the output's gradient, layer.y the weights' (taps, groups).
struct DepthwiseWeight {
  const Layer& a;

  // One row of outputs and one row of the kernel. Outputs that are a dilation apart share the loads of the input.
  template <int KW>
  MEMBER void slide(const float* x, const float* g, float* sums, int64_t c) const {
    int64_t channels = a.groups, d = a.dilation_w;
    vec sum[KW] = {};
    for (int64_t phase = 0; phase < d && phase < a.out_width; phase++) {
      vec window[KW];
      for (int j = 0; j < KW - 1; j++) window[j + 1] = at(x, phase - a.padding_w + j * d, c);
      for (int64_t column = phase; column < a.out_width; column += d) {
        for (int j = 0; j < KW - 1; j++) window[j] = window[j + 1];
        window[KW - 1] = at(x, column - a.padding_w + (KW - 1) * d, c);
        vec gradient = load(g + column * channels + c);
#pragma GCC unroll 8
        for (int j = 0; j < KW; j++) sum[j] += gradient * window[j];
      }
    }
    for (int j = 0; j < KW; j++) store(sums + j * channels + c, load(sums + j * channels + c) + sum[j]);
  }

  MEMBER vec at(const float* x, int64_t column, int64_t c) const {
    return column >= 0 && column < a.width ? load(x + column * a.groups + c) : vec{};
  }

  MEMBER void tap(const float* x, const float* g, float* sums, int64_t j, int64_t c, int64_t some) const {
    int64_t channels = a.groups;
    vec sum = {};
    for (int64_t column = 0; column < a.out_width; column++) {
      int64_t at = column * a.stride_w - a.padding_w + j * a.dilation_w;
      if (at < 0 || at >= a.width) continue;
      sum += load_some(g + column * channels + c, some) * load_some(x + at * channels + c, some);
    }
    store_some(sums + j * channels + c, load_some(sums + j * channels + c, some) + sum, some);
  }

  void part(int64_t first, int64_t last) const {
    int64_t channels = a.groups;
    bool unit = a.stride_w == 1;
    for (int64_t t = 0; t < a.kernel_h * a.kernel_w; t++) std::fill(a.y + t * channels + first, a.y + t * channels + last, 0.0f);
    for (int64_t index = 0; index < a.batch * a.out_height; index++) {
      int64_t n = index / a.out_height, row = index % a.out_height;
      const float* g = a.u + index * a.out_width * channels;
      for (int64_t i = 0; i < a.kernel_h; i++) {
        int64_t r = row * a.stride_h - a.padding_h + i * a.dilation_h;
        if (r < 0 || r >= a.height) continue;
        const float* x = a.x + (n * a.height + r) * a.width * channels;
        float* sums = a.y + i * a.kernel_w * channels;
        int64_t c = first;
        if (unit && (a.kernel_w == 3 || a.kernel_w == 5 || a.kernel_w == 7))
          for (; c + VL <= last; c += VL) {
            if (a.kernel_w == 3) slide<3>(x, g, sums, c);
            else if (a.kernel_w == 5) slide<5>(x, g, sums, c);
            else slide<7>(x, g, sums, c);
          }
        for (; c < last; c += VL)
          for (int64_t j = 0; j < a.kernel_w; j++) tap(x, g, sums, j, c, last - c);
      }
    }
  }

  void run() const {
    constexpr int64_t PART = 64;  // channels, of which some rows stay in the cache
#pragma omp parallel for schedule(dynamic, 1) num_threads(a.threads)
    for (int64_t first = 0; first < a.groups; first += PART) part(first, std::min(a.groups, first + PART));
  }
};
