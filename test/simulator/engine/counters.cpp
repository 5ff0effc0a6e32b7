#include "simulator/engine/counters.h"

#include <algorithm>

namespace sim {
namespace {

constexpr uint64_t kSector = 32, kWavefront = 128;

uint64_t divide_up(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

}  // namespace

int Counters::wavefronts(const uint64_t* addresses, int n, uint32_t bytes) {
  const int together = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
  int total = 0;
  for (int first = 0; first < n; first += together) {
    std::vector<uint64_t> words[32];
    size_t most = 0;
    for (int i = first; i < std::min(n, first + together); i++) {
      for (uint32_t b = 0; b < std::max(bytes, 4u); b += 4) {
        const uint64_t word = (addresses[i] + b) / 4;
        auto& bank = words[word % 32];
        if (std::find(bank.begin(), bank.end(), word) == bank.end()) bank.push_back(word);
        most = std::max(most, bank.size());
      }
    }
    total += static_cast<int>(most);
  }
  return total;
}

int Counters::sectors(const uint64_t* addresses, int n, uint32_t bytes) {
  std::vector<uint64_t> sectors;
  for (int i = 0; i < n; i++) {
    for (uint64_t s = addresses[i] / kSector; s <= (addresses[i] + bytes - 1) / kSector; s++)
      sectors.push_back(s);
  }
  std::sort(sectors.begin(), sectors.end());
  return static_cast<int>(std::unique(sectors.begin(), sectors.end()) - sectors.begin());
}

void Counters::lane(bool global, uint16_t site, int warp, int thread, uint64_t address, uint32_t bytes) {
  const uint64_t place = uint64_t{site} << 6 | uint64_t{global} << 5 | bytes;
  const uint32_t occurrence = occurrences_[place << 32 | static_cast<uint32_t>(thread)]++;
  const uint64_t key = (place * 1024 + static_cast<uint64_t>(warp)) << 28 | occurrence;
  Open& open = open_[key];
  if (open.count == 0) open.bytes = bytes, open.site = site, open.global = global;
  // Lanes are served in their own order, whichever comes first here.
  const int lane = thread % 32;
  int i = open.count++;
  for (; i > 0 && open.lanes[i - 1] > lane; i--) {
    open.lanes[i] = open.lanes[i - 1];
    open.addresses[i] = open.addresses[i - 1];
  }
  open.lanes[i] = static_cast<uint8_t>(lane);
  open.addresses[i] = address;
  if (open.count == 32) {
    this->warp(global, site, open.addresses, 32, bytes);
    open_.erase(key);
  }
}

void Counters::warp(bool global, uint16_t site, const uint64_t* addresses, int n, uint32_t bytes) {
  Counter& counter = totals_[{global, site}];
  counter.requests++;
  counter.bytes += uint64_t{bytes} * static_cast<uint64_t>(n);
  counter.units +=
      static_cast<uint64_t>(global ? sectors(addresses, n, bytes) : wavefronts(addresses, n, bytes));
  counter.least += divide_up(uint64_t{bytes} * static_cast<uint64_t>(n), global ? kSector : kWavefront);
}

void Counters::row(uint16_t site, uint64_t address, uint64_t bytes) {
  Counter& counter = totals_[{true, site}];
  counter.requests++;
  counter.bytes += bytes;
  counter.units += (address + bytes - 1) / kSector - address / kSector + 1;
  counter.least += divide_up(bytes, kSector);
}

void Counters::flush() {
  for (const auto& [key, open] : open_) warp(open.global, open.site, open.addresses, open.count, open.bytes);
  open_.clear();
  occurrences_.clear();
}

void Counters::report(Report& report, const std::vector<std::string>& sites) const {
  for (const auto& [key, counter] : totals_) {
    Counter& total = (key.first ? report.global : report.shared)[sites[key.second]];
    total.requests += counter.requests;
    total.bytes += counter.bytes;
    total.units += counter.units;
    total.least += counter.least;
  }
}

}  // namespace sim
