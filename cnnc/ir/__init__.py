"""A network as a graph: nodes with an operator and a shape each, in the order in which they are computed.

`text` writes a graph and reads it, `model` is a graph with its weights, `initializers` draws the first of these,
`pixels` says which inputs take pictures.
"""

from cnnc.ir.graph import Frame as Frame
from cnnc.ir.graph import Graph as Graph
from cnnc.ir.graph import Node as Node
from cnnc.ir.graph import Origin as Origin
from cnnc.ir.graph import Repeat as Repeat
from cnnc.ir.graph import call_notes as call_notes
from cnnc.ir.graph import is_same as is_same
from cnnc.ir.graph import scopes_of as scopes_of
from cnnc.ir.graph import verify as verify
