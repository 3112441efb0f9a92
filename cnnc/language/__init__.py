"""The text of a spec as a syntax tree: an LALR parser whose table is built from `grammar/cnn.lark`.

`syntax` has the nodes of the tree, `formatter` lays a text out as `cnnc fmt` does.
"""

from cnnc.language.parser import LONGEST_FILE as LONGEST_FILE
from cnnc.language.parser import lexemes as lexemes
from cnnc.language.parser import parse as parse
from cnnc.language.parser import parse_part as parse_part
