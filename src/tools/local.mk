looks = %D%/look.c %D%/look.h %D%/look_options.c %D%/look_options.h
tool_sources = %D%/tool.c %D%/tool.h
selection = %D%/selection_options.c %D%/selection_options.h
# Which family is this?
families = %D%/base_model.c %D%/base_model.h %D%/maps.c %D%/maps.h
tool_libs = libsd.a $(PCRE2_LIBS) $(YAJL_LIBS) $(XXHASH_LIBS) $(ZSTD_LIBS) $(DEFLATE_LIBS) $(ARCHIVE_LIBS) $(CUDA_LIBS) -lm

bin_PROGRAMS += sd-cat sd-ls

sd_cat_SOURCES = $(selection) %D%/sd-cat.c $(tool_sources)
sd_cat_LDADD = $(tool_libs)
sd_ls_SOURCES = $(selection) %D%/sd-ls.c %D%/ls.h %D%/ls_check.c %D%/ls_kind.c %D%/ls_lines.c %D%/ls_metadata.c %D%/ls_refused.c %D%/ls_sums.c %D%/sum_list.c %D%/sum_list.h %D%/ls_table.c $(looks) $(families) $(tool_sources)
sd_ls_LDADD = $(tool_libs)

bin_PROGRAMS += sd-pack
sd_pack_SOURCES = %D%/sd-pack.c %D%/pack_form.c %D%/pack_form.h %D%/progress.c %D%/progress.h $(tool_sources)
sd_pack_LDADD = $(tool_libs)

bin_PROGRAMS += sd-shard
sd_shard_SOURCES = $(selection) %D%/sd-shard.c $(tool_sources)
sd_shard_LDADD = $(tool_libs)

bin_PROGRAMS += sd-rename
sd_rename_SOURCES = %D%/sd-rename.c %D%/back.c %D%/back.h %D%/explain.c %D%/explain.h %D%/explain_people.c %D%/explain_rows.c %D%/explain_words.c %D%/explanation.h %D%/look.c %D%/look.h %D%/sample.c %D%/sample.h %D%/suggest.c %D%/suggest.h %D%/why.c %D%/why.h $(families) $(tool_sources)
sd_rename_LDADD = $(tool_libs)

bin_PROGRAMS += sd-transpose
sd_transpose_SOURCES = $(selection) %D%/sd-transpose.c %D%/execution_options.c %D%/execution_options.h $(tool_sources)
sd_transpose_LDADD = $(tool_libs)

bin_PROGRAMS += sd-cast
sd_cast_SOURCES = $(selection) %D%/sd-cast.c %D%/execution_options.c %D%/execution_options.h $(tool_sources)
sd_cast_LDADD = $(tool_libs)

bin_PROGRAMS += sd-diff
sd_diff_SOURCES = $(selection) %D%/sd-diff.c %D%/diff.h %D%/diff_config.c %D%/diff_data.c %D%/diff_explain.c %D%/diff_flow.c %D%/diff_lines.c %D%/diff_match.c %D%/diff_parts.c %D%/diff_side.c %D%/diff_spool.c %D%/diff_table.c $(looks) %D%/sum_list.c %D%/sum_list.h $(families) $(tool_sources)
sd_diff_LDADD = $(tool_libs)

bin_PROGRAMS += sd-stat
sd_stat_SOURCES = $(selection) %D%/sd-stat.c %D%/stat.h %D%/stat_check.c %D%/stat_hist.c %D%/stat_lines.c %D%/stat_pool.c %D%/stat_table.c %D%/stat_values.c %D%/execution_options.c %D%/execution_options.h $(looks) $(tool_sources)
sd_stat_LDADD = $(tool_libs)
