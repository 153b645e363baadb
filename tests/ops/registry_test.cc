// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/registry.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <string>

#include "ebb/autograd/testing.h"
#include "gtest/gtest.h"

// Every op of the library, by its samples: the heart of the tests. A family's samples are in its
// own file of this folder.
namespace ebb {
namespace {

std::vector<std::string> op_names() {
  std::vector<std::string> names;
  for (const OpDef* def : registered_ops()) names.push_back(def->doc.name);
  return names;
}

class EveryOp : public ::testing::TestWithParam<std::string> {};

TEST_P(EveryOp, DoesWhatItsSamplesSay) {
  try {
    testing::check_samples(*find_op(GetParam()), testing::samples_of(GetParam()));
  } catch (const testing::CheckFailure& e) {
    FAIL() << e.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Registry, EveryOp, ::testing::ValuesIn(op_names()),
                         [](const auto& op) { return op.param; });

TEST(Registry, NamesAreUnique) {
  std::set<std::string> seen;
  for (const std::string& name : op_names()) {
    EXPECT_TRUE(seen.insert(name).second) << "two ops are named " << name;
  }
}

TEST(Registry, FindsOpsByName) {
  for (const OpDef* def : registered_ops()) EXPECT_EQ(find_op(def->doc.name), def);
  EXPECT_EQ(find_op("no_such_op"), nullptr);
  EXPECT_EQ(find_op(""), nullptr);
}

TEST(Registry, SamplesBelongToOps) {
  for (const std::string& name : testing::ops_with_samples()) {
    EXPECT_NE(find_op(name), nullptr)
        << "samples are registered for '" << name << "', and there is no such op";
  }
}

TEST(Registry, HasEveryRequiredOp) {
  const std::string path = std::string(EBB_SOURCE_DIR) + "/tests/ops/required_ops.txt";
  std::ifstream file(path);
  ASSERT_TRUE(file) << path;
  int count = 0;
  for (std::string name; std::getline(file, name);) {
    ++count;
    EXPECT_NE(find_op(name), nullptr) << "no op is registered as '" << name << "'";
  }
  EXPECT_GT(count, 100);
}

// Calls infer and cost of every op with default attributes on the shapes it documents.
TEST(Registry, TableHasALineForEachOp) {
  const std::string table = op_table();
  EXPECT_EQ(static_cast<size_t>(std::count(table.begin(), table.end(), '\n')),
            registered_ops().size());
  const std::optional<Cost> mm = example_cost(*find_op("mm"));
  ASSERT_TRUE(mm.has_value());
  EXPECT_EQ(mm->multiply_adds, 64.0 * 64 * 64);
  EXPECT_EQ(mm->bytes, 3.0 * 64 * 64 * 4);
}

}  // namespace
}  // namespace ebb
