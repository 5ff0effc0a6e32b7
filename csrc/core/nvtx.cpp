#include "core/nvtx.h"

#include <algorithm>
#include <cstdlib>

#ifdef FSV_HAVE_NVTX
#include <nvtx3/nvToolsExt.h>
#endif

namespace fsv {

bool NvtxRanges::attached() {
#ifdef FSV_HAVE_NVTX
  static const bool attached = std::getenv("NVTX_INJECTION64_PATH") != nullptr;
  return attached;
#else
  return false;
#endif
}

void NvtxRanges::enter([[maybe_unused]] const std::vector<std::string>& path) {
#ifdef FSV_HAVE_NVTX
  const auto [differs, unused] = std::mismatch(open_.begin(), open_.end(), path.begin(), path.end());
  const auto common = static_cast<size_t>(differs - open_.begin());
  for (size_t i = open_.size(); i > common; i--) nvtxRangePop();
  for (size_t i = common; i < path.size(); i++) nvtxRangePushA(path[i].c_str());
  open_ = path;
#endif
}

}  // namespace fsv
