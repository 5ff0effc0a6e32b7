// Weight files for JavaScript: a checked table, tensors over the mapped bytes, and the header of a file to be
// written.
#include <cstring>

#include "addon/binding.h"
#include "core/safetensors.h"

namespace fsv::addon {
namespace {

using Info = Napi::CallbackInfo;
using File = safetensors::File;
using FileHandle = Napi::External<std::shared_ptr<const File>>;

/// {handle, metadata: {}, entries: [{name, dtype, shape}]} of the file at a path.
Napi::Value open_safetensors(const Info& info) {
  return guarded(info, [&] {
    const Napi::Env env = info.Env();
    auto file = std::make_shared<const File>(info[0].ToString().Utf8Value());
    Napi::Object out = Napi::Object::New(env);
    Napi::Array entries = Napi::Array::New(env, file->table().entries().size());
    uint32_t index = 0;
    for (const auto& entry : file->table().entries()) {
      Napi::Object row = Napi::Object::New(env);
      Napi::Array shape = Napi::Array::New(env, entry.shape.size());
      for (uint32_t i = 0; i < entry.shape.size(); i++) shape.Set(i, static_cast<double>(entry.shape[i]));
      row.Set("name", entry.name);
      row.Set("dtype", std::string(name_of(entry.dtype)));
      row.Set("shape", shape);
      entries.Set(index++, row);
    }
    Napi::Object metadata = Napi::Object::New(env);
    for (const auto& [key, value] : file->table().metadata()) metadata.Set(key, value);
    out.Set("entries", entries);
    out.Set("metadata", metadata);
    out.Set("handle", FileHandle::New(env, new std::shared_ptr<const File>(std::move(file)),
                                      [](Napi::Env, std::shared_ptr<const File>* f) { delete f; }));
    return out;
  });
}

/// The tensor `name` of a file, over the mapped bytes where they can be read in place.
Napi::Value map_tensor(const Info& info) {
  return guarded(info, [&] {
    const auto& device = device_of(info[0]);
    const auto& file = *info[1].As<FileHandle>().Data();
    const std::string name = info[2].ToString();
    const safetensors::Entry* entry = file->table().find(name);
    if (!entry) throw model_file(name, file->path(), " has no tensor ", name);
    TensorSpec spec;
    spec.dtype = entry->dtype;
    if (entry->shape.size() > kMaxRank)
      throw model_file(name, file->path(), ": ", name, " has more than ", kMaxRank, " dimensions");
    for (const int64_t d : entry->shape) spec.shape.dims[spec.shape.rank++] = d;
    const auto bytes = file->bytes(*entry);
    if (entry->is_aligned() && device->backend().host_memory()) {
      if (!device->backend().dry()) file->prefetch(*entry);
      return wrap(info.Env(), device->external(spec, bytes.data(), file));
    }
    const Tensor out = device->empty(spec);
    if (!device->backend().dry()) file->prefetch(*entry);
    device->write(out, bytes.data(), bytes.size(), file);
    return wrap(info.Env(), out);
  });
}

/// (entries: [{name, dtype, shape}], metadata) -> {header: Uint8Array, order: name[]}: bodies follow in that
/// order.
Napi::Value safetensors_header(const Info& info) {
  return guarded(info, [&] {
    const Napi::Env env = info.Env();
    std::vector<safetensors::Entry> entries;
    const auto list = info[0].As<Napi::Array>();
    for (uint32_t i = 0; i < list.Length(); i++) {
      const auto row = list.Get(i).As<Napi::Object>();
      safetensors::Entry entry;
      entry.name = row.Get("name").ToString();
      entry.dtype = to_dtype(row.Get("dtype"), entry.name + ".dtype");
      const Shape shape = to_shape(row.Get("shape"), entry.name + ".shape");
      entry.shape.assign(shape.dims, shape.dims + shape.rank);
      entries.push_back(std::move(entry));
    }
    safetensors::Metadata metadata;
    if (info[1].IsObject()) {
      const auto object = info[1].As<Napi::Object>();
      const Napi::Array keys = object.GetPropertyNames();
      for (uint32_t i = 0; i < keys.Length(); i++) {
        const std::string key = keys.Get(i).ToString();
        metadata[key] = object.Get(key).ToString();
      }
    }
    const std::string header = safetensors::write_header(entries, metadata);
    Napi::Array order = Napi::Array::New(env, entries.size());
    for (uint32_t i = 0; i < entries.size(); i++) order.Set(i, entries[i].name);
    Napi::Object out = Napi::Object::New(env);
    out.Set("header", Napi::Buffer<char>::Copy(env, header.data(), header.size()));
    out.Set("order", order);
    return out;
  });
}

}  // namespace

void register_weights(Napi::Env env, Napi::Object exports) {
  exports.Set("openSafetensors", Napi::Function::New(env, open_safetensors));
  exports.Set("mapTensor", Napi::Function::New(env, map_tensor));
  exports.Set("safetensorsHeader", Napi::Function::New(env, safetensors_header));
}

}  // namespace fsv::addon
