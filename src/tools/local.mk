tool_sources = %D%/tool.c %D%/tool.h
tool_libs = libsd.a $(CUDA_LIB_A) $(PCRE2_LIBS) $(YAJL_LIBS) $(XXHASH_LIBS) $(CUDA_LIBS) -lm

bin_PROGRAMS += sd-cat sd-ls sd-pack

sd_cat_SOURCES = %D%/sd-cat.c $(tool_sources)
sd_cat_LDADD = $(tool_libs)
sd_ls_SOURCES = %D%/sd-ls.c $(tool_sources)
sd_ls_LDADD = $(tool_libs)
sd_pack_SOURCES = %D%/sd-pack.c $(tool_sources)
sd_pack_LDADD = $(tool_libs)
