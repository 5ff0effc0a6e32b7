// The 3D pixel shuffles with their averaging and duplicating shortcuts, between a coarse side of few pixels
// with many channels and a fine side. A coarse pixel and a fine tensor's block of time x space x space
// `places` have the same `full` channels: channel c of place p is full channel c * places + p. A thread has N
// neighbouring full channels (or their averages): on the coarse side one access, on the fine side an access a
// place, which is dense over the lanes where N divides the places.
#pragma once

#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/sheet.cuh"

namespace fsv::cuda::kernels {

/// x or its shortcut.
struct ShuffleInput {
  const void* data;  ///< null: not there
  int64_t channels;
  int64_t share;  ///< full channels that a result averages, or that a channel of this input fills
};

struct ShuffleTask {
  ShuffleInput inputs[2];
  void* out;
  int64_t samples, frames, height, width;  ///< of the coarse side
  int64_t fine_frames;
  int time, space;
  int64_t channels;  ///< of the result
  int64_t edge;      ///< frames that the fine side lacks in front
  bool vector;       ///< shuffle reads N channels of x at once
};

/// A walk along the full channels of a coarse pixel, giving for each its place in a fine tensor of
/// `channels`, relative to frame 0 of the sample, first row and column of the block. A frame before frame 0
/// counts as frame 0.
class Walk {
 public:
  FSV_DEVICE Walk(const ShuffleTask& task, int64_t channels, int64_t full)
      : time_(task.time),
        space_(task.space),
        pixel_(channels),
        line_(task.width * task.space * channels),
        frame_(task.height * task.space * line_) {
    const int64_t area = int64_t{space_} * space_, places = time_ * area;
    c_ = full / places;
    const int64_t place = full - c_ * places;
    t_ = static_cast<int>(place / area);
    const int64_t in_area = place - t_ * area;
    h_ = static_cast<int>(in_area / space_);
    w_ = static_cast<int>(in_area - int64_t{h_} * space_);
  }

  /// Goes to the block whose first frame is this.
  FSV_DEVICE void enter(int64_t first_frame) { first_ = first_frame, locate(); }
  FSV_DEVICE bool before_first() const { return first_ + t_ < 0; }
  FSV_DEVICE int64_t offset() const { return offset_; }

  FSV_DEVICE void next() {
    offset_ += pixel_;
    if (++w_ < space_) return;
    w_ = 0;
    if (++h_ == space_) {
      h_ = 0;
      if (++t_ == time_) t_ = 0, c_++;
    }
    locate();
  }

 private:
  FSV_DEVICE void locate() {
    offset_ = (before_first() ? 0 : first_ + t_) * frame_ + h_ * line_ + w_ * pixel_ + c_;
  }

  int time_, space_, t_, h_, w_;
  int64_t pixel_, line_, frame_, c_, first_ = 0, offset_ = 0;
};

/// A line of coarse pixels.
struct Line {
  int64_t sample, frame, row;
};
/// body(line) for the lines of all samples, one to a z of the grid.
template <class Body>
FSV_DEVICE void each_line(const ShuffleTask& task, const Body& body) {
  const int64_t lines = task.samples * task.frames * task.height;
  FSV_ROLLED
  for (int64_t i = blockIdx.z; i < lines; i += gridDim.z) {
    const int64_t frames = i / task.height;
    body(Line{frames / task.frames, frames % task.frames, i - frames * task.height});
  }
}
/// Offset of frame 0, first row of a line's blocks, in a fine tensor.
FSV_DEVICE int64_t fine_start(const ShuffleTask& task, const Line& line, int64_t channels) {
  return ((line.sample * task.fine_frames * task.height + line.row) * task.space) * task.space * task.width *
         channels;
}
FSV_DEVICE int64_t coarse_start(const ShuffleTask& task, const Line& line, int64_t channels) {
  return ((line.sample * task.frames + line.frame) * task.height + line.row) * task.width * channels;
}

/// out [coarse, channels]: the mean of `share` full channels of x, plus that of the shortcut.
template <class T, int N>
FSV_KERNEL void FSV_BOUNDS(256, 2) unshuffle(ShuffleTask task) {
  const bool two = task.inputs[1].data != nullptr;
  each_column(task.channels / N, [&](int64_t column) {
    const int64_t k = column * N;
    Walk walks[2] = {Walk(task, task.inputs[0].channels, k * task.inputs[0].share),
                     Walk(task, task.inputs[1].channels, k * task.inputs[1].share)};
    each_line(task, [&](const Line& line) {
      T* out = static_cast<T*>(task.out) + coarse_start(task, line, task.channels) + k;
      each_row(task.width, [&](int64_t w) {
        float v[N] = {};
        const auto add = [&](const ShuffleInput& input, Walk walk) {
          const T* x = static_cast<const T*>(input.data) + fine_start(task, line, input.channels) +
                       w * task.space * input.channels;
          walk.enter(line.frame * task.time - task.edge);
          const float size = static_cast<float>(input.share);
          FSV_UNROLL
          for (int n = 0; n < N; n++) {
            float sum = 0;
            FSV_ROLLED
            for (int64_t i = 0; i < input.share; i++, walk.next())
              sum += widened(ptx::ldg(x + walk.offset()));
            v[n] += sum / size;
          }
        };
        add(task.inputs[0], walks[0]);
        if (two) add(task.inputs[1], walks[1]);
        store(out + w * task.channels, v);
      });
    });
  });
}

/// out [fine, channels]: every full channel is its channel of x plus that of the shortcut.
template <class T, int N>
FSV_KERNEL void FSV_BOUNDS(256, 2) shuffle(ShuffleTask task) {
  const int64_t full = task.channels * task.time * task.space * task.space;
  each_column(full / N, [&](int64_t column) {
    const Walk start(task, task.channels, column * N);
    int64_t channel[2], rest[2];
    for (int i = 0; i < 2; i++) {
      const int64_t share = task.inputs[i].share;
      channel[i] = column * N / share, rest[i] = column * N - channel[i] * share;
    }
    each_line(task, [&](const Line& line) {
      T* out = static_cast<T*>(task.out) + fine_start(task, line, task.channels);
      each_row(task.width, [&](int64_t w) {
        float v[N] = {};
        const auto add = [&](const ShuffleInput& input, int64_t c, int64_t filled) {
          const T* x = static_cast<const T*>(input.data) + coarse_start(task, line, input.channels) +
                       w * input.channels;
          FSV_UNROLL
          for (int n = 0; n < N; n++) {
            v[n] += widened(ptx::ldg(x + c));
            if (++filled == input.share) filled = 0, c++;
          }
        };
        if (task.vector)
          load(static_cast<const T*>(task.inputs[0].data) + coarse_start(task, line, full) + w * full +
                   column * N,
               v);
        else
          add(task.inputs[0], channel[0], rest[0]);
        if (task.inputs[1].data) add(task.inputs[1], channel[1], rest[1]);
        Walk walk = start;
        walk.enter(line.frame * task.time - task.edge);
        FSV_UNROLL
        for (int n = 0; n < N; n++, walk.next())
          if (!walk.before_first())
            ptx::stg(out + w * task.space * task.channels + walk.offset(), narrowed<T, 1>(v + n).elements[0]);
      });
    });
  });
}

}  // namespace fsv::cuda::kernels
