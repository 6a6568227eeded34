sources += \
	%D%/consumer.c \
	%D%/handoff.h \
	%D%/producer.c \
	%D%/socket.c %D%/socket.h
