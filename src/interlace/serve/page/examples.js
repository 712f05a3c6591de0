// Beginnings to start from: Python, which is what the bundled models write. A gap is what stands between ⟦ and ⟧.
export const examples = [
  { name: "A class", text: 'class Point:\n    def __init__(self, x, y):' },
  { name: "A function", text: 'def read_json(path):\n    """Read a JSON file."""\n    with open(path) as file:' },
  { name: "A loop", text: 'def count_words(text):\n    counts = {}\n    for word in text.split():' },
  { name: "A gap", tokens: 5, text: 'def load(path):\n    try:\n        return open(path).read()\n    ⟦...⟧\n        return None\n' },
];

// The text without its marks, and where the gap begins and ends.
export function unmarked(text) {
  const start = text.indexOf("⟦"), end = text.indexOf("⟧") - 1;
  return start < 0 ? { text } : { text: text.replace("⟦", "").replace("⟧", ""), start, end };
}
