sources += \
	%D%/companions.c %D%/companions.h \
	%D%/companions_check.c \
	%D%/config_json.c %D%/config_json.h \
	%D%/dequant.c %D%/dequant.h \
	%D%/ends.c %D%/ends.h \
	%D%/listing.c %D%/listing.h \
	%D%/manifest.c %D%/manifest.h \
	%D%/manifest_codec.c %D%/manifest_codec.h \
	%D%/parts.c %D%/parts.h \
	%D%/quant_config.c %D%/quant_config.h \
	%D%/scales.c %D%/scales.h \
	%D%/selection.c %D%/selection.h \
	%D%/siblings.c %D%/siblings.h \
	%D%/siblings_adapters.c \
	%D%/siblings_counts.c \
	%D%/siblings_edit.c \
	%D%/siblings_extras.c \
	%D%/siblings_names.c \
	%D%/siblings_read.c \
	%D%/siblings_search.h \
	%D%/siblings_shapes.c \
	%D%/siblings_sizes.c \
	%D%/siblings_targets.c \
	%D%/siblings_units.c \
	%D%/stack.c %D%/stack.h
