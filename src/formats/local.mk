sources += \
	%D%/atomic_output.c %D%/atomic_output.h \
	%D%/checkpoint.c %D%/checkpoint.h \
	%D%/dcp_safetensors.c %D%/dcp_safetensors.h \
	%D%/extents.c %D%/extents.h \
	%D%/format.c %D%/format.h \
	%D%/index.c %D%/index.h \
	%D%/loss.c %D%/loss.h \
	%D%/open.c %D%/open.h \
	%D%/output_plan.c %D%/output_plan.h \
	%D%/replace.c %D%/replace.h \
	%D%/safetensors_header.c %D%/safetensors_header.h \
	%D%/safetensors_read.c %D%/safetensors_read.h \
	%D%/safetensors_write.c %D%/safetensors_write.h \
	%D%/template.c %D%/template.h \
	%D%/zstd.c %D%/zstd.h
