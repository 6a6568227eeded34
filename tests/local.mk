# Every test speaks TAP, so that `make check` counts test cases and not programs. By hand: tests/NAME, or build/tests/unit/test-NAME.
LOG_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
AM_TESTS_ENVIRONMENT = \
	SD_TOOLS='$(abs_top_builddir)'; export SD_TOOLS; \
	MANDOC='$(MANDOC)'; export MANDOC; \
	CRITERION_OUTPUTS=tap:-; export CRITERION_OUTPUTS;

# Unit tests, one line each: tests/unit/test-NAME is made from tests/unit/test-NAME.c.
unit_tests = \
	tests/unit/test-base \
	tests/unit/test-move \
	tests/unit/test-stream

if HAVE_CRITERION
AM_CPPFLAGS += $(CRITERION_CFLAGS)
LDADD = libsd.a $(CUDA_LIB_A) $(CRITERION_LIBS) $(PCRE2_LIBS) $(YAJL_LIBS) $(XXHASH_LIBS) $(CUDA_LIBS) -lm
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)
endif
