// Bilinear up-sampling of channels-last maps. Included by kernels.cpp.

struct Upsample {
  const float* x;                   // (batch, height, width, channels)
  float* y;                         // (batch, out_height, out_width, channels)
  const int64_t *rows, *columns;    // the sample before each output
  const float *row_weights, *column_weights;  // of the sample after it
  int64_t batch, channels, height, width, out_height, out_width, threads;
};

static void upsample_row(const Upsample& a, int64_t index) {
  int64_t n = index / a.out_height, row = index % a.out_height, channels = a.channels;
  const float* image = a.x + n * a.height * a.width * channels;
  const float* top = image + a.rows[row] * a.width * channels;
  const float* bottom = image + std::min(a.rows[row] + 1, a.height - 1) * a.width * channels;
  float* y = a.y + index * a.out_width * channels;
  vec w = splat(a.row_weights[row]);
  for (int64_t x = 0; x < a.out_width; x++, y += channels) {
    int64_t left = a.columns[x] * channels, right = std::min(a.columns[x] + 1, a.width - 1) * channels;
    vec v = splat(a.column_weights[x]);
    for (int64_t c = 0; c < channels; c += VL) {
      int64_t some = channels - c;
      vec upper = lerp(load_some(top + left + c, some), load_some(top + right + c, some), v);
      vec lower = lerp(load_some(bottom + left + c, some), load_some(bottom + right + c, some), v);
      store_some(y + c, lerp(upper, lower, w), some);
    }
  }
}
