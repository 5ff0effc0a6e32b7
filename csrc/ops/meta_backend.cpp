// The planning device: every call of a real run, none of its work. Addresses are handed out but never
// touched.
#include "ops/backend.h"

namespace fsv {
namespace {

class MetaBackend final : public Backend {
 public:
  explicit MetaBackend(size_t (*packed_bytes)(const PackArgs&)) : packed_bytes_(packed_bytes) {}

  void* allocate(size_t bytes) override {
    const uintptr_t address = next_;
    next_ += bytes;
    return reinterpret_cast<void*>(address);
  }
  void release(void*, size_t) override {}
  size_t packed_bytes(const PackArgs& args) const override { return packed_bytes_(args); }
  bool dry() const override { return true; }
  std::string description() const override { return "meta (plans, computes nothing)"; }
  void copy_in(void*, const void*, size_t) override {}
  void copy_out(void*, const void*, size_t) override {}
  void copy(void*, const void*, size_t) override {}

#define FSV_NOTHING(name, Name) \
  void name(const Name##Args&) override {}
  FSV_FOR_EACH_OP(FSV_NOTHING)
#undef FSV_NOTHING

 private:
  size_t (*packed_bytes_)(const PackArgs&);
  uintptr_t next_ = uintptr_t{1} << 40;
};

}  // namespace

std::unique_ptr<Backend> make_meta_backend(size_t (*packed_bytes)(const PackArgs&)) {
  return std::make_unique<MetaBackend>(packed_bytes);
}

}  // namespace fsv
