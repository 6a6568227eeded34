EXTRA_DIST += \
	%D%/HACKING %D%/packages %D%/build %D%/check %D%/demo %D%/gpu-check %D%/arm-check \
	%D%/bench/gpu-bench.cu %D%/bench/gpu-check.c %D%/bench/kernel-bench.txt \
	%D%/bench/run %D%/bench/torch-peer %D%/bench/pipelines-2026-11-21.txt

# Never part of a test: measures whole pipelines, with 3.4 GB of input and of output in BENCH_DIR (/var/tmp/sd-bench).
EXTRA_PROGRAMS = contrib/bench/kernel-bench contrib/bench/make-checkpoint contrib/bench/peak
contrib_bench_kernel_bench_LDADD = libsd.a -lm
contrib_bench_make_checkpoint_LDADD =
contrib_bench_peak_LDADD =
CLEANFILES += $(EXTRA_PROGRAMS)

bench: all $(EXTRA_PROGRAMS)
	SD_TOOLS='$(abs_top_builddir)' $(top_srcdir)/contrib/bench/run
.PHONY: bench
