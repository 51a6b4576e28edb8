// The convolutions of a stem, a chunk at a time: 3 x 3, two steps at a time on both axes, each with
// a bias and followed by gelu. The second and the third are integer products of patches, with one
// scale for the whole chunk, so that a chunk never depends on its neighbours.
#include <cstring>
#include <mutex>

#include "auris_native.h"
#include "kernels.h"
#include "pool.h"
#include "work.h"

namespace {

constexpr int kPatches = 200;  // About as many are laid out at once: they stay in a near cache.

constexpr float kGeluDepth = 0.17f;  // No value of gelu lies deeper below zero.

int half(int size) { return (size + 1) / 2; }

// Codes [height + 2, width + 2, channels] of one chunk, with zeros around it.
struct Image {
  int height, width;
  float most;  // What 127 stands for.
};

// What a thread needs.
struct Room {
  Memory<float> mel, values, products, scales;
  Memory<int8_t> codes, patches, laid, scratch;
  Memory<int32_t> code_sums, sums;
};

int rows_at_once(int width) { return width < kPatches ? kPatches / width : 1; }

// All that chunks of so many frames need, so that threads ask for no memory.
void prepare(const auris_stem& stem, int frames, Room& room) {
  const int64_t height = half(stem.bins), width = half(frames), channels = stem.channels;
  const int64_t between = int64_t{half(static_cast<int>(height))} * half(static_cast<int>(width));
  room.mel.of((2 * height + 1) * (2 * width + 1));
  room.values.of((between > width ? between : width) * channels);
  room.codes.of((height + 2) * (width + 2) * channels);
  room.code_sums.of((height + 2) * (width + 2));
  const int64_t count = kPatches > width ? kPatches : width;
  for (const auris_matrix* taps : {&stem.second, &stem.third}) {
    room.patches.of(count * padded(taps->columns));
    if (is_laid(count)) room.laid.of((count + kLaid) * taps->columns);
    room.scratch.of(scratch_bytes(*taps));
  }
  room.sums.of(count);
  room.scales.of(count);
  room.products.of(count * channels);
}

class Convolving {
 public:
  Convolving(const auris_stem& stem, Room& room) : s_(stem), room_(room) {}

  // mel [bins, frames] to out [tokens, bins', channels].
  void run(const float* mel, int frames, float* out) {
    const Image first = begin(mel, frames);
    const int height = half(first.height), width = half(first.width);
    float* values = room_.values.of(int64_t{height} * width * s_.channels);
    convolve(first, s_.second, s_.second_bias, values, width * s_.channels, s_.channels);
    const float most = kernels->largest_size(values, height * width * s_.channels);
    const Image second = blank(height, width, most);
    for (int h = 0; h < height; ++h) fix(second, h, values + int64_t{h} * width * s_.channels);
    convolve(second, s_.third, s_.third_bias, out, s_.channels, half(height) * s_.channels);
  }

 private:
  // The first convolution, twice: for its largest value, and to round it off row by row.
  Image begin(const float* mel, int frames) {
    const int width = half(frames), height = half(s_.bins);
    const int64_t padded = 2 * int64_t{width} + 1;
    float* wide = room_.mel.of((2 * int64_t{height} + 1) * padded);
    std::memset(wide, 0, sizeof(float) * (2 * height + 1) * padded);
    for (int bin = 0; bin < s_.bins; ++bin)
      std::memcpy(wide + (bin + 1) * padded + 1, mel + int64_t{bin} * frames, sizeof(float) * frames);
    const auto row = [&](int h, float* out) {
      const float* rows[3] = {wide + 2 * h * padded, wide + (2 * h + 1) * padded,
                              wide + (2 * h + 2) * padded};
      return kernels->begin(rows, s_.first, s_.first_bias, s_.channels, width, out);
    };
    float most = 0.f;
    for (int h = 0; h < height; ++h) {
      const float largest = row(h, nullptr);
      most = largest > most || largest != largest ? largest : most;
      if (most != most) break;
    }
    const Image image = blank(height, width, most);
    float* values = room_.values.of(int64_t{width} * s_.channels);
    for (int h = 0; h < height; ++h) {
      row(h, values);
      fix(image, h, values);
    }
    return image;
  }

  // An image of zeros for numbers up to `most`.
  Image blank(int height, int width, float most) {
    const int64_t places = (int64_t{height} + 2) * (width + 2);
    std::memset(room_.codes.of(places * s_.channels), 0, places * s_.channels);
    std::memset(room_.code_sums.of(places), 0, sizeof(int32_t) * places);
    return {height, width, most < kGeluDepth ? kGeluDepth : most};
  }

  // Values [width, channels] as row h of an image; where there is no largest, all stay zero.
  void fix(const Image& image, int h, const float* values) {
    if (image.most != image.most) return;
    const int64_t first = (int64_t{h} + 1) * (image.width + 2) + 1;
    for (int64_t place = first; place < first + image.width; ++place, values += s_.channels)
      room_.code_sums.data()[place] =
          kernels->round_off(values, s_.channels, 127.f / image.most,
                             room_.codes.data() + place * s_.channels);
  }

  // What output (h, w) hears, as a row of activations.
  void patch(int64_t image_width, int h, int w, int8_t* out, int32_t* sum) {
    const int64_t row = 3 * int64_t{s_.channels};
    *sum = 0;
    for (int i = 0; i < 3; ++i) {
      const int64_t place = (2 * h + i) * (image_width + 2) + 2 * w;
      std::memcpy(out + i * row, room_.codes.data() + place * s_.channels, row);
      for (int j = 0; j < 3; ++j) *sum += room_.code_sums.data()[place + j];
    }
  }

  const int8_t* lay_patches(const auris_matrix& taps, int64_t count) {
    int8_t* laid = room_.laid.of((count + kLaid) * taps.columns);
    for (int64_t block = 0; block * kLaid < count; ++block)
      lay_block(room_.patches.data(), count, taps.columns, block, laid);
    return laid;
  }

  // Output (h, w) goes to out + h * down + w * right.
  void convolve(const Image& image, const auris_matrix& taps, const float* bias, float* out,
                int64_t down, int64_t right) {
    const int height = half(image.height), width = half(image.width), channels = s_.channels;
    const int rows = rows_at_once(width);
    const int64_t count = int64_t{rows} * width, stride = padded(taps.columns);
    int8_t* patches = room_.patches.of(count * stride);
    int8_t* scratch = room_.scratch.of(scratch_bytes(taps));
    int32_t* sums = room_.sums.of(count);
    float* scales = room_.scales.of(count);
    float* products = room_.products.of(count * channels);
    for (int64_t i = 0; i < count; ++i) {
      scales[i] = image.most / 127.f;
      std::memset(patches + i * stride + taps.width, 0, taps.columns - taps.width);
    }
    for (int top = 0; top < height; top += rows) {
      const int64_t held = int64_t{height - top < rows ? height - top : rows} * width;
      for (int64_t i = 0; i < held; ++i)
        patch(image.width, top + static_cast<int>(i / width), static_cast<int>(i % width),
              patches + i * stride, sums + i);
      const Codes x = {patches, scales, sums, held, is_laid(held) ? lay_patches(taps, held) : nullptr};
      kernels->products(&taps, x, 0, channels, products, channels, false, scratch);
      for (int64_t i = 0; i < held; ++i) {
        float* place = out + (top + i / width) * down + i % width * right;
        kernels->gelu(products + i * channels, bias, channels);
        std::memcpy(place, products + i * channels, sizeof(float) * channels);
      }
    }
  }

  const auris_stem& s_;
  Room& room_;
};

std::vector<Room> rooms;

}  // namespace

AURIS_API int32_t auris_convolve(const auris_stem* stem, const float* mels, int32_t count,
                                 int32_t frames, float* out, int32_t threads) {
  return call([&] {
    if (static_cast<int>(rooms.size()) < threads) rooms.resize(threads);
    for (Room& room : rooms) prepare(*stem, frames, room);
    const int64_t tokens = half(half(half(frames))), bins = half(half(half(stem->bins)));
    Pool::instance().run(threads, count, [&](int64_t chunk, int worker) {
      Convolving(*stem, rooms[worker])
          .run(mels + chunk * stem->bins * frames, frames,
               out + chunk * tokens * bins * stem->channels);
    });
  });
}
