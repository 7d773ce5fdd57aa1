# The node in a container. `docker build --tag synseg .` makes the one for CPUs; `--target cuda` the one for NVIDIA GPUs.
# Neither has been built yet: see docs/install.md.
ARG ROS_DISTRO=jazzy

FROM ros:${ROS_DISTRO}-ros-base AS ros
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends \
    g++ make python3-dev python3-pip python3-venv \
    "ros-${ROS_DISTRO}-bond" "ros-${ROS_DISTRO}-vision-msgs" \
    "ros-${ROS_DISTRO}-compressed-image-transport" "ros-${ROS_DISTRO}-image-transport" \
  && rm -rf /var/lib/apt/lists/*

FROM ros AS sources
WORKDIR /synseg
COPY . .
ENTRYPOINT ["/ros_entrypoint.sh", "/synseg/scripts/with_env"]
CMD ["ros2", "launch", "synseg_ros", "segment.launch.py"]

# torch brings the CUDA libraries; the host needs NVIDIA's driver and its container toolkit.
FROM sources AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN ["/ros_entrypoint.sh", "make", "env", "EXTRAS=torch,bag"]

FROM sources AS cpu
RUN ["/ros_entrypoint.sh", "make", "env", "EXTRAS=openvino,bag"]
