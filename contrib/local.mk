EXTRA_DIST += \
	%D%/load-check %D%/load-check.txt \
	%D%/HACKING %D%/packages %D%/build %D%/check %D%/demo %D%/gpu-check %D%/plot %D%/arm-check %D%/deb \
	%D%/debian/changelog %D%/debian/control %D%/debian/copyright %D%/debian/docs %D%/debian/prerm %D%/debian/rules %D%/debian/source/format \
	%D%/bench/gpu-bench.cu %D%/bench/gpu-check.c %D%/bench/kernel-bench.txt \
	%D%/bench/run %D%/bench/make-gptq %D%/bench/torch-peer %D%/bench/dcp-peer %D%/bench/list-peer %D%/bench/diff-peer %D%/bench/numpy-peer %D%/bench/pipelines-2026-11-26.txt

# The stream in Python, for stages of one's own.
stagedir = $(pkgdatadir)/python
dist_stage_DATA = %D%/python/sdstream.py

# A job array of Slurm, to be copied and set.
slurmdir = $(pkgdatadir)/slurm
dist_slurm_SCRIPTS = %D%/slurm/convert

# Completions: one program that knows, and for each shell a file that asks it.
completers = %D%/completions/sd-tools.bash %D%/completions/_sd-tools %D%/completions/sd-tools.fish
dist_pkgdata_SCRIPTS = %D%/completions/complete
EXTRA_DIST += $(completers:=.in)
CLEANFILES += $(completers)
noinst_DATA = $(completers)
bashdir = $(datadir)/bash-completion/completions
zshdir = $(datadir)/zsh/site-functions
fishdir = $(datadir)/fish/vendor_completions.d

$(completers): %: %.in Makefile
	$(AM_V_GEN)$(MKDIR_P) $(@D) && $(SED) 's,@pkgdatadir@,$(pkgdatadir),g; s,@tools@,$(bin_PROGRAMS),g' $< >$@.tmp && mv $@.tmp $@

# bash and fish look for a file with the name of the command.
install-data-local: $(completers)
	$(MKDIR_P) '$(DESTDIR)$(bashdir)' '$(DESTDIR)$(zshdir)' '$(DESTDIR)$(fishdir)'
	$(INSTALL_DATA) contrib/completions/_sd-tools '$(DESTDIR)$(zshdir)'
	for tool in $(bin_PROGRAMS); do \
		$(INSTALL_DATA) contrib/completions/sd-tools.bash '$(DESTDIR)$(bashdir)'/$$tool && \
		$(INSTALL_DATA) contrib/completions/sd-tools.fish '$(DESTDIR)$(fishdir)'/$$tool.fish || exit; \
	done

uninstall-local:
	rm -f '$(DESTDIR)$(zshdir)/_sd-tools'
	for tool in $(bin_PROGRAMS); do rm -f '$(DESTDIR)$(bashdir)'/$$tool '$(DESTDIR)$(fishdir)'/$$tool.fish; done

# Never part of a test: measures whole pipelines, with 3.4 GB of input and of output in BENCH_DIR (/var/tmp/sd-bench).
benchers = contrib/bench/kernel-bench contrib/bench/make-checkpoint contrib/bench/peak contrib/bench/statistics-bench
EXTRA_PROGRAMS += $(benchers)
contrib_bench_kernel_bench_LDADD = libsd.a -lm
contrib_bench_make_checkpoint_LDADD =
contrib_bench_peak_LDADD =
contrib_bench_statistics_bench_LDADD = libsd.a -lm
CLEANFILES += $(EXTRA_PROGRAMS)

bench: all $(benchers)
	SD_TOOLS='$(abs_top_builddir)' $(top_srcdir)/contrib/bench/run
.PHONY: bench
