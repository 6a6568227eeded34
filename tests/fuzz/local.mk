# Fuzzing. tests/fuzz/NAME.c is a target: test-NAME runs the corpus through it under sanitizers, as a part of make check,
# and NAME is the fuzzer, which make fuzz builds with clang.
fuzz_targets = safetensors index stream map expression torch distcp archive
fuzz_libs = $(PCRE2_LIBS) $(YAJL_LIBS) $(XXHASH_LIBS) $(ZSTD_LIBS) $(DEFLATE_LIBS) $(ARCHIVE_LIBS) -lm

if HAVE_SANITIZERS
fuzz_flags = -std=c11 -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
check_LIBRARIES = %D%/libsd.a
tests_fuzz_libsd_a_SOURCES = $(sources) src/move/device_cuda_absent.c %D%/fuzz.h %D%/main.c
tests_fuzz_libsd_a_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_CORPUS='"$(abs_top_srcdir)/tests/fuzz/corpus"'
tests_fuzz_libsd_a_CFLAGS = -pthread $(fuzz_flags)

fuzz_tests = %D%/test-safetensors %D%/test-index %D%/test-stream %D%/test-map %D%/test-expression %D%/test-torch %D%/test-distcp %D%/test-archive
check_PROGRAMS += $(fuzz_tests)
TESTS += $(fuzz_tests)
tests_fuzz_test_safetensors_SOURCES = %D%/safetensors.c
tests_fuzz_test_index_SOURCES = %D%/index.c
tests_fuzz_test_stream_SOURCES = %D%/stream.c
tests_fuzz_test_map_SOURCES = %D%/map.c
tests_fuzz_test_expression_SOURCES = %D%/expression.c
tests_fuzz_test_torch_SOURCES = %D%/torch.c
tests_fuzz_test_distcp_SOURCES = %D%/distcp.c
tests_fuzz_test_archive_SOURCES = %D%/archive.c
tests_fuzz_test_safetensors_CFLAGS = $(tests_fuzz_libsd_a_CFLAGS)
tests_fuzz_test_index_CFLAGS = $(tests_fuzz_libsd_a_CFLAGS)
tests_fuzz_test_stream_CFLAGS = $(tests_fuzz_libsd_a_CFLAGS)
tests_fuzz_test_map_CFLAGS = $(tests_fuzz_libsd_a_CFLAGS)
tests_fuzz_test_expression_CFLAGS = $(tests_fuzz_libsd_a_CFLAGS)
tests_fuzz_test_torch_CFLAGS = $(tests_fuzz_libsd_a_CFLAGS)
tests_fuzz_test_distcp_CFLAGS = $(tests_fuzz_libsd_a_CFLAGS)
tests_fuzz_test_archive_CFLAGS = $(tests_fuzz_libsd_a_CFLAGS)
tests_fuzz_test_safetensors_LDADD = %D%/libsd.a $(fuzz_libs)
tests_fuzz_test_index_LDADD = %D%/libsd.a $(fuzz_libs)
tests_fuzz_test_stream_LDADD = %D%/libsd.a $(fuzz_libs)
tests_fuzz_test_map_LDADD = %D%/libsd.a $(fuzz_libs)
tests_fuzz_test_expression_LDADD = %D%/libsd.a $(fuzz_libs)
tests_fuzz_test_torch_LDADD = %D%/libsd.a $(fuzz_libs)
tests_fuzz_test_distcp_LDADD = %D%/libsd.a $(fuzz_libs)
tests_fuzz_test_archive_LDADD = %D%/libsd.a $(fuzz_libs)
endif

EXTRA_PROGRAMS += %D%/safetensors %D%/index %D%/stream %D%/map %D%/expression %D%/torch %D%/distcp %D%/archive
EXTRA_DIST += %D%/run %D%/corpus %D%/json.dict %D%/stream.dict %D%/map.dict %D%/expression.dict %D%/torch.dict %D%/distcp.dict %D%/archive.dict
tests_fuzz_stream_SOURCES = %D%/stream.c %D%/stream-mutator.c
tests_fuzz_archive_SOURCES = %D%/archive.c %D%/archive-mutator.c
tests_fuzz_safetensors_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_index_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_stream_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_map_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_expression_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_torch_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_distcp_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_archive_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_safetensors_LDADD = libsd.a $(fuzz_libs)
tests_fuzz_index_LDADD = libsd.a $(fuzz_libs)
tests_fuzz_stream_LDADD = libsd.a $(fuzz_libs)
tests_fuzz_map_LDADD = libsd.a $(fuzz_libs)
tests_fuzz_expression_LDADD = libsd.a $(fuzz_libs)
tests_fuzz_torch_LDADD = libsd.a $(fuzz_libs)
tests_fuzz_distcp_LDADD = libsd.a $(fuzz_libs)
tests_fuzz_archive_LDADD = libsd.a $(fuzz_libs)

# Each target for FUZZ_TIME seconds, from the corpus on. Fails if there are findings; they are in fuzz/findings.
FUZZ_TIME = 60
FUZZ_TARGETS = $(fuzz_targets)
fuzz:
	$(top_srcdir)/tests/fuzz/run '$(FUZZ_TIME)' $(FUZZ_TARGETS)
.PHONY: fuzz
