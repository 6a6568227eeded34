sources += \
	%D%/assembly.c %D%/assembly.h \
	%D%/atomic_output.c %D%/atomic_output.h \
	%D%/checkpoint.c %D%/checkpoint.h \
	%D%/dcp_native.c %D%/dcp_native.h \
	%D%/dcp_safetensors.c %D%/dcp_safetensors.h \
	%D%/extents.c %D%/extents.h \
	%D%/file.c %D%/file.h \
	%D%/folder.c %D%/folder.h \
	%D%/format.c %D%/format.h \
	%D%/hf_metadata.c %D%/hf_metadata.h \
	%D%/index.c %D%/index.h \
	%D%/interleave.c %D%/interleave.h \
	%D%/loss.c %D%/loss.h \
	%D%/open.c %D%/open.h \
	%D%/output_plan.c %D%/output_plan.h \
	%D%/pickle.c %D%/pickle.h \
	%D%/replace.c %D%/replace.h \
	%D%/safetensors_header.c %D%/safetensors_header.h \
	%D%/safetensors_read.c %D%/safetensors_read.h \
	%D%/safetensors_write.c %D%/safetensors_write.h \
	%D%/template.c %D%/template.h \
	%D%/torch_data.c \
	%D%/torch_dict.c %D%/torch_dict.h \
	%D%/torch_save.c %D%/torch_save.h \
	%D%/torch_tensor.c %D%/torch_tensor.h \
	%D%/zip.c %D%/zip.h \
	%D%/zstd.c %D%/zstd.h
