#include "simulator/engine/shadow.h"

#include <algorithm>
#include <bit>

namespace sim {

void ShadowMemory::reset(size_t bytes) {
  bytes_ = bytes;
  pages_.clear();
  pages_.resize((bytes + kPage - 1) / kPage);
}

/// The page, made ready for this launch: what earlier ones left is forgotten, but for which bytes are
/// initialised.
ShadowMemory::Page& ShadowMemory::page(size_t index, uint32_t launch) {
  Page& page = pages_[index];
  if (page.launch == launch) return page;
  page.launch = launch;
  if (!page.cells) return page;
  const size_t count = kPage / page.width;
  const Cell* cells = page.cells.get();
  const bool uniform =
      std::all_of(cells, cells + count, [&](const Cell& cell) { return cell.state == cells[0].state; });
  if (uniform) {
    page.state = cells[0].state;
    page.cells.reset();
    page.width = 16;
  } else {
    for (size_t i = 0; i < count; i++) {
      const Mark state = cells[i].state;
      page.cells[i] = Cell();
      page.cells[i].state = state;
    }
  }
  return page;
}

/// Gives the page cells of at most `width` bytes.
void ShadowMemory::split(Page& page, size_t width) {
  if (!page.cells) {
    page.width = static_cast<uint8_t>(std::min<size_t>(16, width));
    const size_t count = kPage / page.width;
    page.cells = std::make_unique<Cell[]>(count);
    for (size_t i = 0; i < count; i++) page.cells[i].state = page.state;
  } else if (width < page.width) {
    auto cells = std::make_unique<Cell[]>(kPage / width);
    for (size_t i = 0; i < kPage / width; i++) cells[i] = page.cells[i * width / page.width];
    page.cells = std::move(cells);
    page.width = static_cast<uint8_t>(width);
  }
}

/// The widest cells of which [offset, offset + count) is a whole number.
size_t ShadowMemory::widest(size_t offset, size_t count) {
  return size_t{1} << std::min(4, std::countr_zero(offset | count));
}

Violation ShadowMemory::check(Cell& cell, const Touch& touch, uint32_t unit) const {
  const Clock& knows = *touch.knows;
  if (cell.mbarrier) return {Violation::on_mbarrier};
  if (cell.state == Mark::outside) return {Violation::outside};
  if (!touch.write && cell.state == Mark::undefined && undefined_is_error_) return {Violation::uninitialised};
  if (global_ && cell.unit && cell.unit != unit) {
    // Blocks of a launch run in any order and nothing here orders them, so only reads may meet.
    if (cell.written) return {Violation::other_unit_wrote, 0, kNobody, cell.write_site, cell.unit};
    if (touch.write && cell.read_count) {
      return {Violation::other_unit_read, 0, kNobody, cell.reads[0].site, cell.unit};
    }
    cell.other_reads |= cell.read_count > 0;
    cell.read_count = 0;
  }
  if (touch.write && cell.other_reads) return {Violation::other_unit_read, 0, kNobody, 0, cell.unit};
  if (cell.writer != kNobody && knows.seen[cell.writer] < cell.write_tick) {
    return {Violation::after_write, 0, cell.writer, cell.write_site, unit};
  }
  if (touch.async && cell.generic && cell.writer != kNobody) {
    const Ticks& fenced = global_ ? knows.fenced_global : knows.fenced_shared;
    if (fenced[cell.writer] < cell.write_tick)
      return {Violation::unfenced, 0, cell.writer, cell.write_site, unit};
  }
  if (touch.noncoherent && cell.written) return {Violation::stale, 0, cell.writer, cell.write_site, unit};
  if (touch.write) {
    for (int i = 0; i < cell.read_count; i++) {
      const Cell::Read& read = cell.reads[i];
      if (knows.seen[read.agent] < read.tick) return {Violation::over_read, 0, read.agent, read.site, unit};
    }
  }
  return {};
}

void ShadowMemory::record(Cell& cell, const Touch& touch) {
  if (touch.write) {
    cell.state = Mark::defined;
    cell.written = true;
    cell.generic = !touch.async;
    cell.writer = touch.agent;
    cell.write_tick = touch.tick;
    cell.write_site = touch.site;
    cell.read_count = 0;
    return;
  }
  // Takes the place of a read that it is ordered after, if there is one.
  int slot = 0;
  while (slot < cell.read_count && cell.reads[slot].agent != touch.agent &&
         touch.knows->seen[cell.reads[slot].agent] < cell.reads[slot].tick) {
    slot++;
  }
  if (slot == Cell::kReads) {
    slot = static_cast<int>(victim_++ % Cell::kReads);
  } else if (slot == cell.read_count) {
    cell.read_count++;
  }
  cell.reads[slot] = {touch.tick, touch.agent, touch.site};
}

Violation ShadowMemory::touch(size_t offset, size_t count, const Touch& touch, uint32_t launch,
                              uint32_t unit) {
  const size_t end = offset + count;
  while (offset < end) {
    Page& here = page(offset / kPage, launch);
    const size_t begin = offset % kPage, stop = std::min(kPage, begin + (end - offset));
    split(here, widest(begin, stop - begin));
    for (size_t i = begin / here.width; i < stop / here.width; i++) {
      Cell& cell = here.cells[i];
      if (Violation violation = check(cell, touch, unit)) {
        violation.offset = offset - begin + i * here.width;
        return violation;
      }
      cell.unit = unit;
      record(cell, touch);
    }
    offset += stop - begin;
  }
  return {};
}

void ShadowMemory::mark(size_t offset, size_t count, Mark state) {
  const size_t end = offset + count;
  while (offset < end) {
    Page& here = pages_[offset / kPage];
    const size_t begin = offset % kPage, stop = std::min(kPage, begin + (end - offset));
    if (begin == 0 && (stop == kPage || offset + stop == bytes_)) {
      here = Page();
      here.state = state;
    } else if (here.cells || here.state != state) {
      split(here, widest(begin, stop - begin));
      for (size_t i = begin / here.width; i < stop / here.width; i++) {
        here.cells[i] = Cell();
        here.cells[i].state = state;
      }
    }
    offset += stop - begin;
  }
}

void ShadowMemory::mark_mbarrier(size_t offset, bool live) {
  Page& here = pages_[offset / kPage];
  split(here, 8);
  for (size_t i = offset % kPage / here.width; i < (offset % kPage + 8) / here.width; i++)
    here.cells[i].mbarrier = live;
}

}  // namespace sim
