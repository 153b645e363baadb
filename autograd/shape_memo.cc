// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/shape_memo.h"

#include <algorithm>
#include <iterator>

namespace ebb::detail {

namespace {

constexpr size_t kMost = size_t{1} << 40;  // more is an error that is left to the allocation

}  // namespace

constinit thread_local ShapeMemo::Entry ShapeMemo::entries_[1 << kIndexBits] = {};

void ShapeMemo::keep(const OpDef& def, const void* attrs, Span<const Array> in,
                     Span<const Meta> out) {
  Entry& e = entries_[index(def, in)];
  if (tls_heap == nullptr || in.size() > std::size(e.tags) || out.size() > std::size(e.out) ||
      def.copy_attrs != nullptr || def.attrs_size > sizeof(e.attrs)) {
    return;
  }
  size_t rank = 0;
  for (const Array& a : in) rank += a.defined() ? static_cast<size_t>(a.rank()) : 0;
  if (rank > std::size(e.dims)) return;
  e.def = nullptr;  // nothing is known until all is
  for (size_t j = 0; j < out.size() && !def.view; ++j) {
    const Shape& shape = out[j].shape;
    const int r = shape.rank();
    if (2 * static_cast<size_t>(r) > std::size(e.out[j].sizes)) return;
    const int64_t numel = checked_numel(shape, size_of(out[j].dtype));
    const size_t at = data_offset(r);
    const size_t bytes = at + static_cast<size_t>(numel) * size_of(out[j].dtype);
    if (bytes > kMost) return;
    Output& o = e.out[j];
    o.tags = row_major_tags(out[j].dtype, r);
    o.size_class = static_cast<uint16_t>(size_class_of(bytes));
    o.at = static_cast<uint16_t>(at);
    o.bytes = bytes;
    o.numel = numel;
    int64_t stride = 1;
    for (int i = r - 1; i >= 0; --i) {
      o.sizes[i] = shape[i];
      o.sizes[r + i] = stride;
      stride *= shape[i];
    }
  }
  int64_t* dim = e.dims;
  for (size_t i = 0; i < in.size(); ++i) {
    const ArrayRep* a = in[i].rep();
    e.tags[i] = a != nullptr ? a->tags() : 0;
    if (a != nullptr) dim = std::copy_n(a->dims(), a->rank(), dim);
  }
  if (def.attrs_size != 0) std::memcpy(e.attrs, attrs, def.attrs_size);
  e.n_in = static_cast<uint32_t>(in.size());
  e.n_out = static_cast<uint32_t>(out.size());
  e.def = &def;
}

}  // namespace ebb::detail
