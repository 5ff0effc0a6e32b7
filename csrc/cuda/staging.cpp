#include "cuda/staging.h"

#include <algorithm>
#include <cstring>

#include "cuda/error.h"

namespace fsv::cuda {
namespace {

constexpr size_t kBufferBytes = size_t{8} << 20;
constexpr int kMostThreads = 4;  // one copies 10 GB/s, a card takes up to 55

}  // namespace

Staging::Staging() : pool_(std::min(available_processors(), kMostThreads)) {}

Staging::~Staging() {
  for (Buffer& buffer : buffers_) {
    if (buffer.free) cudaEventDestroy(buffer.free);
    if (buffer.data) cudaFreeHost(buffer.data);
  }
}

Staging::Buffer& Staging::next() {
  Buffer& buffer = buffers_[next_];
  next_ = (next_ + 1) % kBuffers;
  if (!buffer.data) {
    check(cudaEventCreateWithFlags(&buffer.free, cudaEventDisableTiming | cudaEventBlockingSync),
          "cudaEventCreate");
    check(cudaHostAlloc(reinterpret_cast<void**>(&buffer.data), kBufferBytes, cudaHostAllocDefault),
          "pinned memory");
  }
  return buffer;
}

void Staging::copy(void* to, const void* from, size_t bytes) {
  constexpr int64_t kRun = 256 << 10;
  const auto size = static_cast<int64_t>(bytes);
  pool_.parallel_for((size + kRun - 1) / kRun, 1, [&](int64_t begin, int64_t end, int) {
    const int64_t first = begin * kRun, last = std::min(end * kRun, size);
    std::memcpy(static_cast<char*>(to) + first, static_cast<const char*>(from) + first,
                static_cast<size_t>(last - first));
  });
}

void Staging::upload(cudaStream_t stream, void* to, const void* host, size_t bytes) {
  for (size_t at = 0; at < bytes; at += kBufferBytes) {
    const size_t size = std::min(kBufferBytes, bytes - at);
    Buffer& buffer = next();
    check(cudaEventSynchronize(buffer.free), "upload");
    copy(buffer.data, static_cast<const char*>(host) + at, size);
    check(cudaMemcpyAsync(static_cast<char*>(to) + at, buffer.data, size, cudaMemcpyHostToDevice, stream),
          "upload");
    check(cudaEventRecord(buffer.free, stream), "upload");
  }
}

void Staging::download(cudaStream_t stream, void* host, const void* from, size_t bytes) {
  struct Part {
    Buffer* buffer;
    size_t at, size;
  };
  Part parts[kBuffers];
  size_t issued = 0, taken = 0;
  const size_t count = (bytes + kBufferBytes - 1) / kBufferBytes;
  while (taken < count) {
    for (; issued < count && issued < taken + kBuffers; issued++) {
      const size_t at = issued * kBufferBytes, size = std::min(kBufferBytes, bytes - at);
      Buffer& buffer = next();
      check(cudaMemcpyAsync(buffer.data, static_cast<const char*>(from) + at, size, cudaMemcpyDeviceToHost,
                            stream),
            "download");
      check(cudaEventRecord(buffer.free, stream), "download");
      parts[issued % kBuffers] = {&buffer, at, size};
    }
    const Part& part = parts[taken++ % kBuffers];
    check(cudaEventSynchronize(part.buffer->free), "download");
    copy(static_cast<char*>(host) + part.at, part.buffer->data, part.size);
  }
}

}  // namespace fsv::cuda
