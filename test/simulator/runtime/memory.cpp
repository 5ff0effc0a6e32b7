// Memory of cards and pinned memory, and the copies between them.
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "simulator/runtime/cards.h"

using namespace sim::host;

namespace {

bool is_pinned(const void* data, size_t bytes) {
  std::lock_guard lock(runtime().mutex);
  auto at = runtime().pinned.upper_bound(static_cast<const char*>(data));
  if (at == runtime().pinned.begin()) return false;
  --at;
  return static_cast<const char*>(data) + bytes <= at->first + at->second;
}

}  // namespace

cudaError_t cudaMalloc(void** data, size_t bytes) {
  Runtime& r = runtime();
  std::lock_guard lock(r.mutex);
  if (const cudaError_t error = r.unless_capturing(); error != cudaSuccess) return error;
  Card& card = r.cards[static_cast<size_t>(current_card)];
  if (card.lost != cudaSuccess) return fail(card.lost);
  if (runs_out(sim::faults().allocation) || card.used + bytes > card.total)
    return fail(cudaErrorMemoryAllocation);
  *data = r.map(bytes);
  if (!*data) return fail(cudaErrorMemoryAllocation);
  sim::adopt(*data, bytes);
  card.used += bytes;
  card.memory[*data] = bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void* data) {
  if (!data) return cudaSuccess;
  Runtime& r = runtime();
  const int device = current_card;
  {
    std::lock_guard lock(r.mutex);
    if (const cudaError_t error = r.unless_capturing(); error != cudaSuccess) return error;
  }
  const cudaError_t error = r.wait(device, [&] {
    for (const CUstream_st* stream : r.streams)
      if (stream->card == device && (stream->running || !stream->tasks.empty())) return false;
    return true;
  });
  std::lock_guard lock(r.mutex);
  Card& card = r.cards[static_cast<size_t>(device)];
  const auto found = card.memory.find(data);
  if (found == card.memory.end()) return fail(cudaErrorInvalidValue);
  sim::forget(data);
  munmap(data, found->second);
  card.used -= found->second;
  card.memory.erase(found);
  return error;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  std::lock_guard lock(runtime().mutex);
  const Card& card = runtime().cards[static_cast<size_t>(current_card)];
  if (card.lost != cudaSuccess) return fail(card.lost);
  *free = card.total - std::min(card.total, card.used);
  *total = card.total;
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned) {
  *data = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  std::lock_guard lock(runtime().mutex);
  runtime().pinned[static_cast<const char*>(*data)] = bytes;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* data) {
  {
    std::lock_guard lock(runtime().mutex);
    if (runtime().pinned.erase(static_cast<const char*>(data)) == 0) return fail(cudaErrorInvalidValue);
  }
  std::free(data);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  const bool reads_device = kind != cudaMemcpyHostToDevice, writes_device = kind != cudaMemcpyDeviceToHost;
  if ((reads_device && !sim::is_allocated(from, bytes)) || (writes_device && !sim::is_allocated(to, bytes)))
    return fail(cudaErrorInvalidValue);
  const void* host = reads_device ? to : from;
  const bool pageable = kind != cudaMemcpyDeviceToDevice && !is_pinned(host, bytes);
  // Pageable memory is staged: what is copied in is read before the call returns, what is copied out is there
  // when it does.
  std::shared_ptr<char[]> staged;
  if (pageable && writes_device) {
    staged.reset(new char[bytes]);
    std::memcpy(staged.get(), from, bytes);
  }
  auto copy = [to, from, bytes, staged, writes_device] {
    std::memcpy(to, staged ? staged.get() : from, bytes);
    if (writes_device) sim::mark_initialised(to, bytes);
    return cudaSuccess;
  };
  const cudaError_t error = runtime().push(stream, {.run = std::move(copy)});
  return error != cudaSuccess || !pageable || writes_device ? error : cudaStreamSynchronize(stream);
}

cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  if (!sim::is_allocated(data, bytes)) return fail(cudaErrorInvalidValue);
  return runtime().push(stream, {.run = [=] {
                          std::memset(data, value, bytes);
                          sim::mark_initialised(data, bytes);
                          return cudaSuccess;
                        }});
}
