// Beginnings to start from: Python, which is what the bundled models write. A gap is what stands between ⟦ and ⟧.
// Of each the bundled twin is sure enough to fix several tokens in a forward; of `def mean(values):` it is not.
export const examples = [
  { name: "A function", text: 'def copy(source, target):\n    if not os.path.exists(source):' },
  { name: "A class", text: 'class Error(Exception):\n    def __init__(self, message, code):' },
  { name: "A licence", text: '# Licensed under the Apache License, Version 2.0' },
  { name: "A docstring", text: 'def load(path):\n    """Load a file.\n\n    Parameters\n    ----------\n    path : str' },
  { name: "A gap", tokens: 6, text: 'def distance(a, b):\n    """Return the distance.\n\n    ⟦...⟧\n    a : ndarray\n    """\n' },
];

// The text without its marks, and where the gap begins and ends.
export function unmarked(text) {
  const start = text.indexOf("⟦"), end = text.indexOf("⟧") - 1;
  return start < 0 ? { text } : { text: text.replace("⟦", "").replace("⟧", ""), start, end };
}
