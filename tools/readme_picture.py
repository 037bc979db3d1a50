"""Draw the picture of README.md: python tools/readme_picture.py"""

from pathlib import Path

from softprompt_lab.plots import concatenation_diagram

PICTURE = Path(__file__).resolve().parents[1] / "notebooks" / "images" / "soft_prompt.png"

if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(concatenation_diagram(4, [7, 5], label_lengths=[2, 2]).png())
