// The planning device: every call of a real run, none of its work. Addresses are handed out but never
// touched.
#include "ops/backend.h"

namespace fsv {
namespace {

class MetaBackend final : public Backend {
 public:
  explicit MetaBackend(std::shared_ptr<const Backend> like) : like_(std::move(like)) {}

  void* allocate(size_t bytes) override {
    const uintptr_t address = next_;
    next_ += bytes;
    return reinterpret_cast<void*>(address);
  }
  void release(void*, size_t) override {}
  size_t packed_bytes(const PackArgs& args) const override { return like_->packed_bytes(args); }
  bool host_memory() const override { return like_->host_memory(); }
  bool dry() const override { return true; }
  std::string description() const override { return "meta (plans, computes nothing)"; }
  void copy_in(void*, const void*, size_t) override {}
  void copy_out(void*, const void*, size_t) override {}
  void copy(void*, const void*, size_t) override {}

#define FSV_NOTHING(name, Name)            \
  void name(const Name##Args&) override {} \
  size_t workspace_bytes(const Name##Args& args) const override { return like_->workspace_bytes(args); }
  FSV_FOR_EACH_OP(FSV_NOTHING)
#undef FSV_NOTHING

 private:
  std::shared_ptr<const Backend> like_;
  uintptr_t next_ = uintptr_t{1} << 40;
};

}  // namespace

std::unique_ptr<Backend> make_meta_backend(std::shared_ptr<const Backend> like) {
  return std::make_unique<MetaBackend>(std::move(like));
}

}  // namespace fsv
