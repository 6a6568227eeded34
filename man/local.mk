dist_man_MANS = \
	%D%/sd-cast.1 \
	%D%/sd-cat.1 \
	%D%/sd-clusters.7 \
	%D%/sd-diff.1 \
	%D%/sd-ls.1 \
	%D%/sd-map.5 \
	%D%/sd-pack.1 \
	%D%/sd-quant.7 \
	%D%/sd-rename.1 \
	%D%/sd-shard.1 \
	%D%/sd-stat.1 \
	%D%/sd-stream.5 \
	%D%/sd-tools.7 \
	%D%/sd-transpose.1

# The table of families is made from the maps and from what proves them, so it is never behind them.
nodist_man_MANS = %D%/sd-families.7
CLEANFILES += %D%/sd-families.7
EXTRA_DIST += %D%/families
man/sd-families.7: %D%/families sd-rename$(EXEEXT) $(dist_map_DATA) $(srcdir)/tests/golden $(srcdir)/contrib/load-check.txt
	$(AM_V_GEN)$(MKDIR_P) man && $(SHELL) $(srcdir)/man/families ./sd-rename$(EXEEXT) '$(srcdir)' >$@.new && mv $@.new $@
