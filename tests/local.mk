# Every test speaks TAP, so that `make check` counts test cases and not programs. By hand: tests/NAME, or build/tests/unit/test-NAME.
# lsan.supp is about Criterion itself, which never frees what CRITERION_OUTPUTS says.
LOG_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
AM_TESTS_ENVIRONMENT = \
	SD_TOOLS='$(abs_top_builddir)'; export SD_TOOLS; \
	MANDOC='$(MANDOC)'; export MANDOC; \
	CRITERION_OUTPUTS=tap:-; export CRITERION_OUTPUTS; \
	LSAN_OPTIONS='suppressions=$(abs_top_srcdir)/tests/lsan.supp:print_suppressions=0'; export LSAN_OPTIONS;

# Unit tests, one line each: unit/test-NAME is made from unit/test-NAME.c.
unit_tests = \
	%D%/unit/test-base \
	%D%/unit/test-execute \
	%D%/unit/test-selection \
	%D%/unit/test-companions \
	%D%/unit/test-compare \
	%D%/unit/test-convert \
	%D%/unit/test-cuda-index \
	%D%/unit/test-decode \
	%D%/unit/test-device \
	%D%/unit/test-engine \
	%D%/unit/test-engine-bus \
	%D%/unit/test-fold \
	%D%/unit/test-formats \
	%D%/unit/test-hostile \
	%D%/unit/test-json \
	%D%/unit/test-handoff \
	%D%/unit/test-many \
	%D%/unit/test-map-edit \
	%D%/unit/test-map-names \
	%D%/unit/test-map-parse \
	%D%/unit/test-map-pattern \
	%D%/unit/test-map-plan \
	%D%/unit/test-move \
	%D%/unit/test-nearest \
	%D%/unit/test-parts \
	%D%/unit/test-safetensors-write \
	%D%/unit/test-pickle \
	%D%/unit/test-places \
	%D%/unit/test-progress \
	%D%/unit/test-quantise \
	%D%/unit/test-shard \
	%D%/unit/test-statistics \
	%D%/unit/test-config-dtypes \
	%D%/unit/test-stream \
	%D%/unit/test-checksum

EXTRA_DIST += %D%/unit/exact.h %D%/unit/gpu-mock.h %D%/unit/grid-host.h %D%/unit/kernel-host.cc %D%/unit/jobs.h %D%/unit/map.h %D%/unit/memory-source.h \
	%D%/unit/threads %D%/golden-threads

tests_unit_test_companions_CPPFLAGS = $(AM_CPPFLAGS) -DMAPS='"$(abs_top_srcdir)/src/maps"'
tests_unit_test_map_names_CPPFLAGS = $(AM_CPPFLAGS) -DMAPS='"$(abs_top_srcdir)/src/maps"'
tests_unit_test_places_CPPFLAGS = $(AM_CPPFLAGS) -DMAPS='"$(abs_top_srcdir)/src/maps"' -DGOLDEN='"$(abs_top_srcdir)/tests/golden"'

if HAVE_CRITERION
AM_CPPFLAGS += $(CRITERION_CFLAGS)
LDADD = libsd.a $(CRITERION_LIBS) $(PCRE2_LIBS) $(YAJL_LIBS) $(XXHASH_LIBS) $(ZSTD_LIBS) $(DEFLATE_LIBS) $(ARCHIVE_LIBS) $(CUDA_LIBS) -lm
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)
endif

# sd-transpose with the CUDA kernel's arithmetic, run on the host, in place of a GPU.
check_PROGRAMS += %D%/sd-transpose-grid
tests_sd_transpose_grid_SOURCES = %D%/unit/device-grid.c src/tools/sd-transpose.c src/tools/execution_options.c src/tools/selection_options.c src/tools/tool.c
tests_sd_transpose_grid_LDADD = libsd.a $(PCRE2_LIBS) $(YAJL_LIBS) $(XXHASH_LIBS) $(ZSTD_LIBS) $(DEFLATE_LIBS) $(ARCHIVE_LIBS) $(CUDA_LIBS) -lm

include %D%/fuzz/local.mk

# A library for LD_PRELOAD that makes system calls fail, for faults, kills and changes.
check_DATA = %D%/fault.so %D%/no-memory.so
%D%/fault.so: %D%/fault.c
	$(AM_V_CCLD)$(CC) -D_GNU_SOURCE -std=c11 $(CPPFLAGS) $(CFLAGS) -Wall -Wextra -fPIC -shared $(LDFLAGS) -o $@ $(srcdir)/%D%/fault.c -ldl
# One that makes allocations fail, for memory.
%D%/no-memory.so: %D%/no-memory.c
	$(AM_V_CCLD)$(CC) -D_GNU_SOURCE -std=c11 $(CPPFLAGS) $(CFLAGS) -Wall -Wextra -fPIC -shared -fno-builtin $(LDFLAGS) -o $@ $(srcdir)/%D%/no-memory.c -ldl
CLEANFILES += %D%/fault.so %D%/no-memory.so
EXTRA_DIST += %D%/fault.c %D%/no-memory.c

# Scripts. run-cases runs golden/ as it is, golden-ways with sd-transpose cutting its work differently.
test_scripts = \
	%D%/rooms \
	%D%/run-cases \
	%D%/run-wanted \
	%D%/golden-ways \
	%D%/golden-grid \
	%D%/quantised-cases \
	%D%/dequant \
	%D%/scales-spill \
	%D%/quantise \
	%D%/gpu \
	%D%/kernel \
	%D%/golden-handoff \
	%D%/handoff \
	%D%/zstd \
	%D%/archives \
	%D%/archives-out \
	%D%/checksum \
	%D%/there-and-back \
	%D%/any-order \
	%D%/compose \
	%D%/adapters \
	%D%/advice \
	%D%/config \
	%D%/reference \
	%D%/reshapes \
	%D%/reference-codes \
	%D%/reference-fp8 \
	%D%/reference-quantised \
	%D%/reference-stat \
	%D%/stat \
	%D%/scales \
	%D%/companions \
	%D%/block-fp8 \
	%D%/empty \
	%D%/ranks \
	%D%/load-check \
	%D%/loads \
	%D%/missing \
	%D%/bad-input \
	%D%/limits \
	%D%/names \
	%D%/choosing \
	%D%/claims \
	%D%/cuts \
	%D%/looking \
	%D%/explain \
	%D%/sources \
	%D%/dcp \
	%D%/dcp-write \
	%D%/diff \
	%D%/diff-reference \
	%D%/diff-streams \
	%D%/torch \
	%D%/maps \
	%D%/like \
	%D%/progress \
	%D%/publish \
	%D%/replace \
	%D%/stops \
	%D%/stages \
	%D%/told \
	%D%/strict \
	%D%/faults \
	%D%/memory \
	%D%/kills \
	%D%/resume \
	%D%/changes \
	%D%/all-tools \
	%D%/completions \
	%D%/packages \
	%D%/parts \
	%D%/slurm \
	%D%/clusters \
	%D%/patch \
	%D%/man-pages \
	%D%/run-examples
TESTS += $(test_scripts)
EXTRA_DIST += $(test_scripts) %D%/tap.sh %D%/reference.py %D%/reference-codes.py %D%/reference-fp8.py %D%/diff-reference.py %D%/reference-quant.py %D%/reference-quantised.py %D%/reference-stat.py %D%/stat-cases %D%/stages.py %D%/make-torch.py %D%/make-archives.py %D%/dcp-shards.py %D%/dcp-reader.py %D%/cuts.py \
	%D%/lsan.supp %D%/golden %D%/quantised %D%/quantise-back %D%/wanted

# All of it again, built with AddressSanitizer and UndefinedBehaviorSanitizer.
check-sanitize:
	$(MKDIR_P) sanitize
	cd sanitize && $(abs_top_srcdir)/configure -q --enable-sanitize --with-cuda=no CFLAGS='-g -O1'
	$(MAKE) -C sanitize check

# What works in threads, built with ThreadSanitizer: unit tests, and the golden cases.
threaded = device execute handoff stream formats checksum safetensors-write shard statistics
check-threads:
	$(MKDIR_P) threads
	cd threads && $(abs_top_srcdir)/configure -q --enable-sanitize=thread --with-cuda=no CFLAGS='-g -O1' \
		CRITERION_CFLAGS=-I$(abs_top_srcdir)/tests/unit/threads CRITERION_LIBS=-lm
	$(MAKE) -C threads check TESTS='$(threaded:%=tests/unit/test-%) tests/zstd'
	SD_TOOLS=threads $(top_srcdir)/tests/golden-threads
.PHONY: check-sanitize check-threads
