# Unit tests: one Criterion program a room. Each line of test_names is tests/unit/test-NAME.c.
if HAVE_CRITERION
unit_cppflags = $(AM_CPPFLAGS) $(CRITERION_CFLAGS)
unit_libs = libsd.a $(CUDA_LIB_A) $(CRITERION_LIBS) $(PCRE2_LIBS) $(YAJL_LIBS) $(CUDA_LIBS) -lm
endif
