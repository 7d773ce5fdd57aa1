"""A settings table as the parameters of a node: declared with descriptors, changed together or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from synseg_ros.parameters.options import make_settings

Settings = TypeVar("Settings")


def declare(node: Node, table: type[Settings]) -> Settings:
    """Declare each field of a settings table as a parameter of a node.

    Args:
        node: The node.
        table: NodeSettings or PlayerSettings.

    Returns:
        The settings with the values given at the start.

    Raises:
        ParameterException: A parameter has a wrong type or a value that is not accepted; the text names it.
    """
    given = getattr(node, "_parameter_overrides", {})  # rclpy has no other way to ask what was given
    given.update({parameter.name: parameter for parameter in _held(table, given.values())})
    values = {}
    for field in dataclasses.fields(table):
        # ROS cannot tell the type of an empty list, and asked for several parameters of which one was never set, such
        # as by `ros2 param dump`, rclpy answers for none.
        default = [""] if field.default == () else field.default
        values[field.name] = node.declare_parameter(field.name, default, _descriptor(field)).value
    try:
        return make_settings(table, values)
    except ValueError as error:
        name = str(error).split()[0].rstrip(":")
        raise InvalidParameterValueException(name, values.get(name), str(error)) from None


class LiveSettings(Generic[Settings]):
    """The settings of a node, some of which change while it runs.

    Parameters that are set in one call are accepted or refused together.

    Args:
        node: The node.
        table: NodeSettings or PlayerSettings.
        on_change: Gets the new settings after a change, on the executor's thread.

    Attributes:
        value: The settings in force.
    """

    def __init__(self, node: Node, table: type[Settings], on_change: Callable[[Settings], None]) -> None:
        self._table, self._on_change = table, on_change
        self.value: Settings = declare(node, table)
        if hasattr(node, "add_pre_set_parameters_callback"):  # ROS 2 Humble has none
            node.add_pre_set_parameters_callback(lambda parameters: _held(table, parameters))
        node.add_on_set_parameters_callback(self._set)

    def _set(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        names = {field.name: field.default for field in dataclasses.fields(self._table)}
        changes = {
            parameter.name: names[parameter.name] if parameter.value is None else parameter.value
            for parameter in parameters
            if parameter.name in names
        }
        if not changes:  # a parameter of ROS itself, such as use_sim_time
            return SetParametersResult(successful=True)
        try:
            new = make_settings(self._table, {**vars(self.value), **changes})
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.value = new
        self._on_change(new)
        return SetParametersResult(successful=True)


def _held(table: type, parameters: Iterable[Parameter]) -> list[Parameter]:
    """Return parameters with the types that they are declared with: a whole number is a number, too."""
    floats = {field.name for field in dataclasses.fields(table) if isinstance(field.default, float)}
    return [
        Parameter(parameter.name, value=float(parameter.value))
        if parameter.name in floats and parameter.type_ == Parameter.Type.INTEGER
        else parameter
        for parameter in parameters
    ]


def _descriptor(field: dataclasses.Field) -> ParameterDescriptor:
    limits = field.metadata["minimum"], field.metadata["maximum"]
    described = ParameterDescriptor(description=field.metadata["description"], read_only=not field.metadata["live"])
    if field.metadata["choices"]:
        described.additional_constraints = "one of: " + ", ".join(field.metadata["choices"])
    if None in limits:
        return described
    if isinstance(field.default, int):
        described.integer_range = [IntegerRange(from_value=limits[0], to_value=limits[1], step=1)]
    else:
        described.floating_point_range = [FloatingPointRange(from_value=limits[0], to_value=limits[1])]
    return described
