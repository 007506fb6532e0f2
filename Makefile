# SPDX-License-Identifier: Apache-2.0
# Builds libemlx, the NIF (where Erlang's headers are), the CLI and the tests. GNU make.
#
#   make            build everything this machine can
#   make demo       set up, build, and run the demo
#   make test       set up, build, and run every test this machine can run
#   make test-c     the C tests only; SANITIZE=address,undefined or SANITIZE=thread for a checked
#                   build in its own directory, or SANITIZE=memory, which takes clang;
#                   ONLY=memory runs the tests with that in their path
#   make test-nif SANITIZE=address,undefined  random terms for the native functions
#   make coverage   how many lines the tests run, of the library and of the native functions
#   make test-eco   the tests of Axon, Polaris and Scholar on EMLX; AXON_SOURCE, POLARIS_SOURCE and
#                   SCHOLAR_SOURCE name checkouts of the versions that are installed
#   make test-arm64 build for arm64 and replay the recorded cases under qemu (Debian, Ubuntu)
#   make test-nvrtc compile the CUDA kernels of all recorded cases, with no GPU; takes minutes;
#                   ARCHITECTURES="80 90 100" names others than 90
#   make mlx        fetch Apple's MLX and build the adapter for it; guides/mlx.md has the variables
#   make test-mlx   the tests of the MLX engine, its recorded cases among them
#   make bench      build and run the benchmarks
#   make install    headers, libraries, pkg-config file and CLI, under PREFIX (and DESTDIR)
#   make lint       layers, formatting, lengths and clang-tidy; make format rewrites the formatting
#   make ops        writes lib/emlx/native/ops.txt, which the Elixir side is made from
#   make api        writes build/api.md, the C interface as a page
#   make clean
#
# STRICT=1 turns warnings into errors; V=1 shows the commands.

CC ?= cc
# Of the compilers clang alone has it.
ifeq ($(SANITIZE)$(origin CC),memorydefault)
CC := clang
endif
AR ?= ar
PREFIX ?= /usr/local
STRICT ?=
SANITIZE ?=
COVERAGE ?=
ONLY ?=
QUICK ?=

# One job per core, unless make was told otherwise.
ifeq ($(MAKELEVEL),0)
ifeq ($(filter -j% --jobs%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
endif
endif

VERSION := $(shell sed -n 's/^.define EMLX_VERSION "\(.*\)"/\1/p' include/emlx.h)
SOVERSION := 0
SYSTEM := $(shell uname -s)

ifeq ($(SANITIZE),)
BUILD ?= build$(if $(COVERAGE),/coverage)
else
BUILD ?= build/$(if $(findstring thread,$(SANITIZE)),tsan,$(if $(findstring memory,$(SANITIZE)),msan,asan))
endif
OBJ := $(BUILD)/obj
V ?=
# In front of a command: its short form instead of itself.
short = $(if $(V),,@echo '  $1 $(patsubst $(CURDIR)/%,%,$2)';)

# Sources ----------------------------------------------------------------------------------------

# Every file below directory $1 whose name matches $2.
find = $(foreach entry,$(wildcard $1/*),$(call find,$(entry),$2) $(filter $(subst *,%,$2),$(entry)))

LIB_SOURCES := $(sort $(call find,src,*.c))
# The CPU's levels on this machine, as kind:name:flags, each with the flags of those before it. Sources
# that end in _level.c are compiled once for each of LEVELS, those in a folder of the name of one of DOTS for
# that one.
LEVELS :=
DOTS :=
LEVEL_ROWS := $(shell $(CC) -E -P -x c '-DCPU_LEVEL(name, runs, flags)=LEVELS name flags' \
    '-DCPU_DOTS(name, runs, flags)=DOTS name flags' src/engines/cpu/kernels/levels.def | tr -d '"' | \
    awk 'NF > 1 { row = $$1 ":" $$2; for (i = 3; i <= NF; i++) all = all "," $$i; print row ":" all }')
comma := ,
define level_row
$(word 1,$1) += $(word 2,$1)
FLAGS_$(word 2,$1) := $(subst $(comma), ,$(word 3,$1))
endef
$(foreach row,$(LEVEL_ROWS),$(eval $(call level_row,$(subst :, ,$(row)))))
# CUDA sources, which are part of the library as text.
CUDA_SOURCES := $(sort $(call find,src,*.cu))
CLI_SOURCES := $(sort $(wildcard cli/*.c))
NIF_SOURCES := $(sort $(call find,nif,*.c))
BENCH_SOURCES := $(sort $(wildcard bench/*.c))
ALL_TESTS := $(sort $(call find,test,*_test.c))
# Of $1 those whose path contains $(ONLY), if that is given.
chosen = $(if $(ONLY),$(foreach path,$1,$(if $(findstring $(ONLY),$(path)),$(path))),$1)
TEST_SOURCES := $(call chosen,$(ALL_TESTS))
# QUICK=1 leaves out the scripts, which run the program many times.
TEST_SCRIPTS := $(if $(QUICK),,$(call chosen,$(sort $(call find,test,*_test.sh))))
# Engines for tests, each a shared object; one may have more files in a folder of its name.
TEST_ENGINES := $(sort $(wildcard test/engines/*.c))
ENGINE_PARTS := $(sort $(foreach engine,$(TEST_ENGINES:%.c=%),$(wildcard $(engine)/*.c)))
TEST_HELPERS := $(filter-out %_test.c $(TEST_ENGINES) $(ENGINE_PARTS),$(sort $(call find,test,*.c)))

LIB_OBJECTS := $(patsubst %.c,$(OBJ)/%.o,$(filter-out %_level.c,$(LIB_SOURCES))) \
               $(foreach level,$(LEVELS),$(patsubst %.c,$(OBJ)/%.$(level).o, \
                 $(filter %_level.c,$(LIB_SOURCES)))) \
               $(CUDA_SOURCES:%.cu=$(OBJ)/%.text.o)
CLI_OBJECTS := $(CLI_SOURCES:%.c=$(OBJ)/%.o)
NIF_OBJECTS := $(NIF_SOURCES:%.c=$(OBJ)/%.o)
BENCH_OBJECTS := $(BENCH_SOURCES:%.c=$(OBJ)/%.o)
TEST_OBJECTS := $(ALL_TESTS:%.c=$(OBJ)/%.o)
HELPER_OBJECTS := $(TEST_HELPERS:%.c=$(OBJ)/%.o)
ENGINE_OBJECTS := $(TEST_ENGINES:%.c=$(OBJ)/%.o) $(ENGINE_PARTS:%.c=$(OBJ)/%.o)
ENGINE_FILES := $(TEST_ENGINES:%.c=$(BUILD)/%.so)
TEST_BINARIES := $(TEST_SOURCES:%.c=$(BUILD)/%)
BENCH_BINARIES := $(BENCH_SOURCES:%.c=$(BUILD)/%)

# Libraries --------------------------------------------------------------------------------------

PACKAGES := openblas jansson
# Homebrew keeps OpenBLAS out of the default search path.
PKG_CONFIG := $(if $(filter Darwin,$(SYSTEM)),PKG_CONFIG_PATH="$$PKG_CONFIG_PATH:$$(brew --prefix openblas)/lib/pkgconfig") pkg-config
PACKAGE_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>/dev/null)
# OpenBLAS is loaded when a device is opened: where it is now is one of the places to look.
PACKAGE_LIBS := $(or $(shell $(PKG_CONFIG) --libs jansson 2>/dev/null),-ljansson)
OPENBLAS_FOLDER := $(shell $(PKG_CONFIG) --variable=libdir openblas 2>/dev/null)
LIBS := $(PACKAGE_LIBS) -lpthread -lm -ldl
CMOCKA_CFLAGS = $(shell $(PKG_CONFIG) --cflags cmocka 2>/dev/null)
CMOCKA_LIBS = $(or $(shell $(PKG_CONFIG) --libs cmocka 2>/dev/null),-lcmocka)

# Erlang's headers: where Mix says, else beside the `erl` command, else where `erl` itself says.
ERL := $(shell command -v erl 2>/dev/null)
ERL_BESIDE := $(if $(ERL),$(abspath $(dir $(realpath $(ERL)))/../usr/include))
ERL_INCLUDE := $(firstword $(patsubst %/erl_nif.h,%,$(wildcard $(addsuffix /erl_nif.h,$(ERTS_INCLUDE_DIR) $(ERL_BESIDE)))))
ifeq ($(ERL_INCLUDE),)
ifneq ($(ERL),)
ERL_ROOT := $(shell $(ERL) -noshell -eval 'io:put_chars(code:root_dir()), halt().' 2>/dev/null)
ERL_INCLUDE := $(patsubst %/erl_nif.h,%,$(wildcard $(ERL_ROOT)/usr/include/erl_nif.h))
endif
endif

# Flags ------------------------------------------------------------------------------------------

CFLAGS ?= $(if $(SANITIZE),-O1,-O2) -g
WARNINGS := -Wall -Wextra -Wpedantic $(if $(STRICT),-Werror)
SANITIZE_FLAGS := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all -DEMLX_CHECK_PLANS) $(if $(COVERAGE),--coverage)
# What libraries that were built without it pass to our functions counts as set, and it knows
# variables of threads only where they have a fixed place.
SANITIZE_FLAGS += $(if $(findstring memory,$(SANITIZE)),-fsanitize-memory-param-retval -fsanitize-memory-track-origins -ftls-model=initial-exec)
# Nor does it know what every instruction of the higher levels writes.
ifneq ($(findstring memory,$(SANITIZE)),)
export EMLX_CPU_LEVEL ?= baseline
endif
# Contraction would make results depend on the compiler; kernels ask for fused operations by name.
BASE_FLAGS := -std=gnu17 $(CFLAGS) $(WARNINGS) -fPIC -fvisibility=hidden -ffp-contract=off \
              $(SANITIZE_FLAGS)
# GCC clears and copies structures by instructions that take longer to begin than a call of memset.
STRING_FLAGS := $(foreach kind,memset memcpy,-m$(kind)-strategy=unrolled_loop:64:noalign$(comma)libcall:-1:noalign)
BASE_FLAGS += $(shell echo | $(CC) $(STRING_FLAGS) -E - >/dev/null 2>&1 && echo '$(STRING_FLAGS)')
LINK_FLAGS := $(CFLAGS) $(SANITIZE_FLAGS) $(LDFLAGS)
# What is shipped goes without debugging information; the objects and libemlx.a keep it.
SHIP_FLAGS := $(if $(SANITIZE)$(COVERAGE),,-Wl,-S)

# The tile kernels read no errno and no floating-point exception flags. Never -ffast-math: NaN,
# infinities and the order of sums mean something.
KERNEL_FLAGS := -O3 -fno-math-errno -fno-trapping-math

PART_FLAGS :=
$(OBJ)/src/%.o: PART_FLAGS = -Isrc $(PACKAGE_CFLAGS)
$(OBJ)/src/memory/mem.o: PART_FLAGS = -Isrc -fno-builtin-malloc
$(OBJ)/src/engines/cpu/kernels/%.o: PART_FLAGS = -Isrc $(KERNEL_FLAGS)
$(OBJ)/src/engines/cpu/matrix/blas_load.o: PART_FLAGS = -Isrc $(PACKAGE_CFLAGS) \
    $(if $(OPENBLAS_FOLDER),-DOPENBLAS_FOLDER='"$(OPENBLAS_FOLDER)"')
define dots_flags
$(OBJ)/src/engines/cpu/kernels/product/$1/%.o: PART_FLAGS = -Isrc $(KERNEL_FLAGS) $(FLAGS_$1)
endef
$(foreach level,$(DOTS),$(eval $(call dots_flags,$(level))))
$(OBJ)/cli/%.o: PART_FLAGS = -Isrc $(PACKAGE_CFLAGS)
$(OBJ)/nif/%.o: PART_FLAGS = -Inif -isystem $(ERL_INCLUDE)
$(OBJ)/test/%.o: PART_FLAGS = -Isrc -Itest -Icli $(PACKAGE_CFLAGS) $(CMOCKA_CFLAGS)
$(OBJ)/bench/%.o: PART_FLAGS = -Isrc $(PACKAGE_CFLAGS)

# Targets ----------------------------------------------------------------------------------------

LIB_STATIC := $(BUILD)/libemlx.a
ifeq ($(SYSTEM),Darwin)
LIB_SHARED := $(BUILD)/libemlx.$(SOVERSION).dylib
LIB_LINK := $(BUILD)/libemlx.dylib
SHARED_FLAGS := -dynamiclib -install_name $(PREFIX)/lib/libemlx.$(SOVERSION).dylib
NIF_FLAGS := -bundle -undefined dynamic_lookup -Wl,-exported_symbol,_nif_init
else
LIB_SHARED := $(BUILD)/libemlx.so.$(SOVERSION)
LIB_LINK := $(BUILD)/libemlx.so
SHARED_FLAGS := -shared -Wl,-soname,libemlx.so.$(SOVERSION) -Wl,--no-undefined
# Only the NIF's entry point is visible, so that a libemlx.so in the same process is another one.
NIF_FLAGS := -shared -Wl,--exclude-libs,ALL
endif
CLI := $(BUILD)/emlx
# Of the current directory, whose name may have spaces.
CLI_PATH = $(if $(filter /%,$(CLI)),,$(CURDIR)/)$(CLI)
# A sanitized library cannot be loaded into an ordinary BEAM, so that it lies beside its objects.
NIF := $(if $(SANITIZE)$(COVERAGE),$(BUILD)/)priv/emlx_nif.so
BUILD_NIF := $(if $(SANITIZE),,$(if $(ERL_INCLUDE),$(NIF_SOURCES)))

.PHONY: all demo mlx mlx-if-any test-mlx test test-c test-nif test-nvrtc coverage covered test-eco test-arm64 tests bench install ops api format lint clean mix-priv always
.SECONDARY:
.DELETE_ON_ERROR:

all: $(LIB_STATIC) $(if $(SANITIZE),,$(LIB_LINK)) $(if $(CLI_SOURCES),$(CLI)) \
     $(if $(BUILD_NIF),$(NIF)) $(if $(BUILD_NIF),$(if $(MIX_APP_PATH),mix-priv))

# Files that change only when what they hold does: the library's sources, so that one that is gone
# leaves the library, and the flags (less -Werror, which changes no code).
$(OBJ)/sources: KEPT = $(LIB_SOURCES)
$(OBJ)/flags: KEPT = $(CC) $(filter-out -Werror,$(BASE_FLAGS)) $(CPPFLAGS)
$(OBJ)/sources $(OBJ)/flags: always
	@mkdir -p $(@D)
	@printf '%s\n' '$(KEPT)' | cmp -s - $@ || printf '%s\n' '$(KEPT)' >$@

COMPILE = $(CC) $(BASE_FLAGS) -Iinclude $(PART_FLAGS) $(CPPFLAGS) -MMD -MP -c $< -o $@

$(OBJ)/%.o: %.c Makefile $(OBJ)/flags
	@mkdir -p $(@D)
	$(call short,CC,$<)$(COMPILE)

define compile_level
$(OBJ)/%_level.$1.o: %_level.c Makefile $(OBJ)/flags
	@mkdir -p $$(@D)
	$$(call short,CC,$$< for $1)$$(COMPILE) -DLEVEL=$1 $$(FLAGS_$1)
endef
$(foreach level,$(LEVELS),$(eval $(call compile_level,$(level))))

# The file's bytes as an array of C, which every compiler takes at any length.
$(OBJ)/%.text.c: %.cu Makefile
	@mkdir -p $(@D)
	$(call short,TEXT,$<){ echo 'extern const char cuda_source_$(*F)[];'; \
	    echo 'const char cuda_source_$(*F)[] = {'; \
	    od -An -v -tu1 $< | sed 's/ *\([0-9][0-9]*\)/\1,/g'; echo '0};'; } >$@

$(OBJ)/%.text.o: $(OBJ)/%.text.c $(OBJ)/flags
	@$(CC) $(BASE_FLAGS) -c $< -o $@

# Quick append into a new archive keeps two files of the same name apart.
$(LIB_STATIC): $(LIB_OBJECTS) $(OBJ)/sources
	@rm -f $@
	$(call short,AR,$@)$(AR) qcs $@ $(LIB_OBJECTS)

$(LIB_SHARED): $(LIB_OBJECTS) $(OBJ)/sources
	$(call short,LD,$@)$(CC) $(LINK_FLAGS) $(SHIP_FLAGS) $(SHARED_FLAGS) -o $@ $(LIB_OBJECTS) $(LIBS)

$(LIB_LINK): $(LIB_SHARED)
	@ln -sf $(notdir $<) $@

$(CLI): $(CLI_OBJECTS) $(LIB_STATIC)
	$(call short,LD,$@)$(CC) $(LINK_FLAGS) $(SHIP_FLAGS) -o $@ $(CLI_OBJECTS) $(LIB_STATIC) $(LIBS)

# Written beside and renamed, because a running BEAM may have the old one mapped.
$(NIF): $(NIF_OBJECTS) $(LIB_STATIC)
	@mkdir -p $(@D)
	$(call short,LD,$@)$(CC) $(LINK_FLAGS) $(SHIP_FLAGS) $(NIF_FLAGS) -o $@.new $(NIF_OBJECTS) $(LIB_STATIC) $(LIBS)
	@mv -f $@.new $@

# Mix looks in its build directory, whose priv usually is a link to ours.
mix-priv: $(NIF)
	@mkdir -p "$(MIX_APP_PATH)/priv"
	@test $(NIF) -ef "$(MIX_APP_PATH)/$(NIF)" || cp -f $(NIF) "$(MIX_APP_PATH)/$(NIF)"

# Tests ------------------------------------------------------------------------------------------

# An archive, so that a test links only the helpers it uses and what those use.
HELPERS := $(if $(TEST_HELPERS),$(BUILD)/test/helpers.a)

$(HELPERS): $(HELPER_OBJECTS)
	@mkdir -p $(@D) && rm -f $@
	$(call short,AR,$@)$(AR) qcs $@ $(HELPER_OBJECTS)

# The command line's reader of recorded cases serves tests as well.
CLI_PARTS := $(BUILD)/test/cli.a

$(CLI_PARTS): $(filter-out %/main.o,$(CLI_OBJECTS))
	@mkdir -p $(@D) && rm -f $@
	$(call short,AR,$@)$(AR) qcs $@ $^

$(BUILD)/test/%_test: $(OBJ)/test/%_test.o $(HELPERS) $(CLI_PARTS) $(LIB_STATIC)
	@mkdir -p $(@D)
	$(call short,LD,$@)$(CC) $(LINK_FLAGS) -o $@ $< $(HELPERS) $(CLI_PARTS) $(LIB_STATIC) $(LIBS) $(CMOCKA_LIBS)

# They bring their own copy of what they use of the library, and show nothing of it.
$(BUILD)/test/engines/%.so: $(OBJ)/test/engines/%.o $(HELPERS) $(LIB_STATIC)
	@mkdir -p $(@D)
	$(call short,LD,$@)$(CC) $(LINK_FLAGS) -shared $(if $(filter Darwin,$(SYSTEM)),,-Wl,--exclude-libs,ALL) -o $@ $(filter %.o,$^) $(HELPERS) $(LIB_STATIC) $(LIBS)

define engine_parts
$(BUILD)/$1.so: $(patsubst %.c,$(OBJ)/%.o,$(filter $1/%,$(ENGINE_PARTS)))
endef
$(foreach engine,$(TEST_ENGINES:%.c=%),$(eval $(call engine_parts,$(engine))))

TEST_PROGRAMS := $(TEST_BINARIES) $(TEST_SCRIPTS)

# Tests of the command line find it in EMLX_CLI, and examples and what is installed beside it.
tests: $(TEST_BINARIES) $(ENGINE_FILES) \
       $(if $(findstring test/c,$(TEST_PROGRAMS))$(TEST_SCRIPTS),$(CLI) $(BUILD)/examples/generate $(if $(SANITIZE),,$(LIB_LINK)))

test-c: tests
	@EMLX_CLI='$(CLI_PATH)' scripts/tests/c $(BUILD)/tally $(TEST_PROGRAMS)

test-nvrtc: all $(BUILD)/test/engines/cuda/kernels_test
	@scripts/tests/nvrtc $(BUILD) $(ARCHITECTURES)

# Set-up can bring what the variables above look for, hence the second make.
test:
	@scripts/setup
	@$(MAKE) --no-print-directory all tests
	@EMLX_CLI='$(CLI_PATH)' scripts/test $(BUILD) $(TEST_PROGRAMS)

# Random terms for the native functions, in a sanitized build: FUZZ_SECONDS of them.
test-nif: $(if $(ERL_INCLUDE),$(NIF))
	@scripts/tests/nif $(BUILD)/tally-nif $(NIF)

# Tests in a build that counts lines, and how many of them ran.
coverage:
	@$(MAKE) --no-print-directory COVERAGE=1 covered

covered: tests $(if $(ERL_INCLUDE),$(NIF))
	@EMLX_CLI='$(CLI_PATH)' scripts/coverage $(BUILD) $(TEST_PROGRAMS)

test-eco: all
	@scripts/tests/eco $(BUILD)/tally-eco

test-arm64:
	@scripts/tests/arm64 build/tally-arm64

demo:
	@scripts/setup
	@$(MAKE) --no-print-directory all $(BUILD)/examples/digits
	@unset MAKEFLAGS MAKELEVEL MFLAGS; scripts/demo $(BUILD)

# Apple's MLX ------------------------------------------------------------------------------------

# The adapter lies beside what opens it: the command line, and the NIF.
ADAPTER := libemlx_mlx.$(if $(filter Darwin,$(SYSTEM)),dylib,so)

mlx: all
	@scripts/mlx adapter $(BUILD)/$(ADAPTER) >$(BUILD)/mlx.tree
	@if [ -f $(NIF) ]; then cp -f $(BUILD)/$(ADAPTER) priv/$(ADAPTER).new && \
	    mv -f priv/$(ADAPTER).new priv/$(ADAPTER) && \
	    rm -f priv/mlx && ln -s "$$(cat $(BUILD)/mlx.tree)" priv/mlx; fi
	@$(CLI_PATH) info | grep ' mlx'

# For mix, on a Mac: without MLX, as without a network, there is the native engine.
mlx-if-any: all
	@$(MAKE) --no-print-directory mlx || echo 'mlx: not built; the native engine is used'

test-mlx: mlx $(BUILD)/test/mlx/differ_test $(BUILD)/test/mlx/packed_test $(BUILD)/test/run/exit_test
	@EMLX_CLI='$(CLI_PATH)' EMLX_MLX_ADAPTER='$(CURDIR)/$(BUILD)/$(ADAPTER)' EMLX_TEST_DEVICE=mlx-cpu \
	    EMLX_DIFFER_PROGRAMS=10000 EMLX_TEST_TIMEOUT=$${EMLX_TEST_TIMEOUT:-1800} \
	    scripts/tests/c $(BUILD)/tally test/mlx/binaries_test.sh test/mlx/mlx_test.sh \
	    $(BUILD)/test/mlx/differ_test $(BUILD)/test/mlx/packed_test $(BUILD)/test/run/exit_test \
	    test/mlx/beam.sh

# Benchmarks -------------------------------------------------------------------------------------

$(BUILD)/bench/%: $(OBJ)/bench/%.o $(LIB_STATIC)
	@mkdir -p $(@D)
	$(call short,LD,$@)$(CC) $(LINK_FLAGS) -o $@ $< $(LIB_STATIC) $(LIBS)

# Examples see the public header only.
$(BUILD)/examples/%: $(OBJ)/examples/%.o $(LIB_STATIC)
	@mkdir -p $(@D)
	$(call short,LD,$@)$(CC) $(LINK_FLAGS) -o $@ $< $(LIB_STATIC) $(LIBS)

bench: all $(BENCH_BINARIES)
	@unset MAKEFLAGS MAKELEVEL MFLAGS; EMLX_CLI='$(CLI_PATH)' scripts/bench $(BENCH_BINARIES)

# Installation -----------------------------------------------------------------------------------

OBJCOPY ?= objcopy
TARGET = $(DESTDIR)$(PREFIX)
SHIPPED := $(BUILD)/shipped

# In the static library that is installed only the public names can be linked to, so that those of
# its parts do not meet the names of a program: it is one object, whose other symbols are local.
# (Darwin's linker makes hidden symbols local by itself.)
install: all
	install -d "$(TARGET)/include" "$(TARGET)/lib/pkgconfig" "$(TARGET)/bin" $(SHIPPED)
	$(CC) $(LINK_FLAGS) -r -nostdlib -o $(SHIPPED)/libemlx.o $(LIB_OBJECTS)
	$(if $(filter Darwin,$(SYSTEM)),,$(OBJCOPY) --localize-hidden $(SHIPPED)/libemlx.o)
	rm -f $(SHIPPED)/libemlx.a && $(AR) qcs $(SHIPPED)/libemlx.a $(SHIPPED)/libemlx.o
	install -m 644 include/emlx.h "$(TARGET)/include/"
	install -m 644 $(SHIPPED)/libemlx.a "$(TARGET)/lib/"
	install -m 755 $(LIB_SHARED) "$(TARGET)/lib/"
	ln -sf $(notdir $(LIB_SHARED)) "$(TARGET)/lib/$(notdir $(LIB_LINK))"
	$(if $(CLI_SOURCES),install -m 755 $(CLI) "$(TARGET)/bin/")
	install -d "$(TARGET)/share/man/man1" && install -m 644 man/emlx.1 "$(TARGET)/share/man/man1/"
	printf '%s\n' 'prefix=$(PREFIX)' 'Name: emlx' 'Description: numerical programs of Nx, in C' \
	    'Version: $(VERSION)' 'Requires.private: jansson' 'Cflags: -I"$${prefix}/include"' \
	    'Libs: -L"$${prefix}/lib" -lemlx' 'Libs.private: -lpthread -lm -ldl' \
	    > "$(TARGET)/lib/pkgconfig/emlx.pc"

# Tools ------------------------------------------------------------------------------------------

# Tables (.def) keep the layout of their rows.
FORMATTED = $(sort $(foreach part,include src nif cli test bench examples,$(call find,$(part),*.c) \
              $(call find,$(part),*.h) $(call find,$(part),*.inc)))

format:
	clang-format -i $(FORMATTED)

# The op table as the Elixir side reads it. What else lists ops is made from the table itself.
ops: $(CLI)
	$(CLI_PATH) ops >lib/emlx/native/ops.txt

# The C interface as a page, from its header.
api:
	@mkdir -p $(BUILD)
	scripts/api include/emlx.h >$(BUILD)/api.md

lint:
	@scripts/setup tools
	@scripts/lint $(FORMATTED)

clean:
	rm -rf build priv/emlx_nif.so priv/libemlx_mlx.* priv/mlx

-include $(LIB_OBJECTS:.o=.d) $(CLI_OBJECTS:.o=.d) $(NIF_OBJECTS:.o=.d) $(TEST_OBJECTS:.o=.d) \
         $(HELPER_OBJECTS:.o=.d) $(ENGINE_OBJECTS:.o=.d) $(BENCH_OBJECTS:.o=.d)
