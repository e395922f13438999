r"""Hand-made pairs for MATH in lenient mode: lines of `reference <- answer ;; answer || reference <- answer ...`."""


def pairs(table: str) -> list[tuple[str, str]]:
    """Every (answer, reference) of a table."""
    entries = [entry.split(" <- ", 1) for line in table.strip().splitlines() for entry in line.split(" || ")]
    return [(answer, gold) for gold, answers in entries for answer in answers.split(" ;; ")]


ACCEPTED = pairs(r"""
\frac{1}{2} <- 1/2 ;; \dfrac{1}{2} ;; 0.5 ;; 50\%
\frac12 <- .5 ;; {1 \over 2} ;; ½ ;; \sin 30^\circ ;; \sin(30^\circ)
1/2 <- \frac{2}{4} || -\frac{1}{2} <- \frac{-1}{2} || \frac{1}{-2} <- -\frac{1}{2} || \frac32 <- 1½
\frac{3}{2} <- 1 1/2 ;; 1\frac{1}{2} || -\frac{3}{2} <- -1\frac{1}{2}
10080 <- 10,080 ;; 10{,}080 ;; 10,\!080 ;; 10\,080 ;; $10,080$ ;; \$10,080 || 36 <- \$ 36 || \$36 <- 36 dollars ;; 36
-5 <- -\$5 ;; −5 || 50\% <- 50 ;; 50% ;; 50 percent ;; 50\% \text{ of the total} || 50 <- 50\% || 72 <- 72^\circ
72^\circ <- 72^{\circ} ;; 72° ;; 72 degrees || \frac{270}7\text{ degrees} <- \frac{270}{7}^\circ
15\mbox{ cm}^2 <- 15 cm^2 ;; 15 \text{ cm}^2 ;; 15cm^2 ;; 15 square centimeters ;; 15 ;; The area is 15 cm^2
15\mbox{ cm}^2 <- A = 15 \text{ cm}^2 || 800 <- 800 ml ;; 800\text{ml} ;; 800 \text{ widgets}
5.4 \text{ cents} <- 5.4
5 <- 5 m ;; x=5 ;; AB = 5 ;; The answer is 5 ;; \text{The answer is } 5 ;; 5. ;; \boxed{5} ;; boxed{5} ;; e^{\ln 5}
5 <- |{-5}| ;; ５ ;; f(2)=5 ;; x is 5 ;; The value of x is 5 ;; \text{A total of } 5
60 <- 60 mph ;; 60 km/h ;; 2 \cdot 30^\circ || x=5 <- 5 ;; x = 5 ;; 5 = x || 2x+1 <- f(x) = 2x+1 ;; y = 2x+1
y = 2x+1 <- 2x+1 ;; 2x - y + 1 = 0 ;; y - 2x = 1 || 5x - 7y + 11z + 4 = 0 <- 10x - 14y + 22z + 8 = 0
30 <- \angle ABC = 30^\circ || (1, 2) <- (1,2) || (1,2) <- (1.0, 2) ;; \left(1,2\right) ;; 1,2 ;; (x,y)=(1,2)
\left( 3, \frac{\pi}{2} \right) <- (3, \pi/2) || 3,2,1 <- 1,2,3
1,2 <- \{1,2\} ;; 1 and 2 ;; 1 or 2 ;; 1 \text{ and } 2 ;; x=1, x=2 ;; x = 1 or x = 2 || \{2,1\} <- 1,2
2,-2 <- \pm 2 || -2, 2 <- \pm 2 || \pm 2 <- x=\pm 2 || 1+\sqrt{2}, 1-\sqrt{2} <- 1 \pm \sqrt{2}
1 \pm \sqrt{19} <- 1+\sqrt{19}, 1-\sqrt{19} || \{1\pm\sqrt{5},-2\} <- \{-2, 1+\sqrt5, 1-\sqrt5\}
(-\infty, 2) \cup (3, \infty) <- (-\infty, 2)\cup(3, \infty) ;; (3,\infty)\cup(-\infty,2) ;; (-∞,2)∪(3,∞)
(-\infty, 2) \cup (3, \infty) <- (-\infty,2) U (3,+\infty) ;; x<2 or x>3 || (2,\infty) <- x > 2
x \in [-2,7] <- -2 \le x \le 7 ;; [-2,7] || [-2,7] <- -2 \leq x \leq 7 || [-2, 7] <- x \in [-2,7]
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} <- \begin{bmatrix}1&2\\3&4\end{bmatrix}
\begin{pmatrix} 16/49 \\ 48/49 \\ 24/49 \end{pmatrix} <- \frac{8}{49} \begin{pmatrix} 2 \\ 6 \\ 3 \end{pmatrix}
\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix} <- \begin{pmatrix} 0.2 \\ -3.6 \end{pmatrix}
\begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix} <- -\begin{pmatrix}1&0\\0&1\end{pmatrix} || 2516_8 <- 2516_{8} ;; 2516
40 <- 40_{10} || -2+7i <- 7i-2 ;; -2 + 7 i || -1 <- i^2 || x^2+2x+1 <- (x+1)^2 || 2k+2 <- 2+2k
(a+5)(b+2) <- (b+2)(a+5) ;; ab+2a+5b+10 || xy <- x \cdot y || \frac{11+9a}{20} <- \frac{11}{20}+\frac{9a}{20}
2\sqrt{2} <- \sqrt{8} || \sqrt{2} <- 2^{1/2} || \frac{\sqrt{3}}{3} <- \sqrt{\frac{1}{3}} ;; \frac{1}{\sqrt{3}}
11\sqrt2 <- 11\sqrt{2} || \sqrt{5} <- \sqrt 5 ;; sqrt(5) ;; √5
2 <- \sqrt[3]{8} ;; \frac{1}{2} \cdot 4 ;; 1 + 2\cos(60^\circ) || 5 \pi <- 5\pi
5\pi <- 5π ;; A = 5\pi \text{ cm}^2 || \frac{3\pi}{2} <- 1.5\pi ;; \frac{3}{2}\pi || \frac{20000}{\pi} <- 20000/\pi
\cot x <- \frac{\cos x}{\sin x} || 3 <- \log_2 8 ;; \lfloor 3.7 \rfloor ;; ٣ ;; 2 \cdot \frac{3}{2} || 6 <- 3!
10 <- \binom{5}{2} || \frac13 <- 0.\overline{3} ;; \frac{1}{3} \approx 0.33 || 1024 <- 2^{10} ;; 2^10
0.01 <- 10^{-2} || 1500 <- 1.5 \times 10^3 || 15 <- 5 \times 3 ;; 5 × 3 || x^2 <- x² || east <- \text{east}
\text{east} <- East
\text{(C)} <- C ;; (C) ;; \text{C} ;; \textbf{(C)} ;; \mathrm{(C)} ;; \textbf{(C)}\ 12 ;; \mathbf{(C)} ;; \textbf{C}
\infty <- \infty || x_2+x_1 <- x_1 + x_2 || 31 <- 8 + 8 + 15 = 31 units
\frac{\sqrt{2}+\sqrt{6}}{4} <- \frac{\sqrt{6}+\sqrt{2}}{4} || 1+\sqrt{2} <- \sqrt{3+2\sqrt{2}}
-\frac{1}{1-x} <- \frac{1}{x-1} || 1234567 <- 1,234,567 || (100, 200) <- (100,200) || \emptyset <- \emptyset
\text{no solution} <- \text{no solution} || 0.75 <- \frac 34 || \frac34 <- 3/4 || [1,2) <- \left[ 1, 2 \right)
5,6 <- 5\text{ or }6 || 2 \cos(x) <- 2\cos x || (\sin x)^2 <- \sin^2 x || \frac{\sin\theta}{\cos\theta} <- \tan\theta
3x^{1/2} <- 3\sqrt{x} || -q + p <- p - q || y = \frac{x}{2} <- y=\frac{1}{2}x || 0.5x <- \frac{x}{2}
a=1, b=2 <- a=1, b=2 || x^2-1 <- (x-1)(x+1) || 32348 <- \$32,\!348 || \$32,\!348 <- \$32{,}348
11,\! 111,\! 111,\! 100 <- 11111111100 ;; 11,111,111,100 || .0000672 <- 0.0000672 ;; 6.72 \times 10^{-5} ;; 6.72e-5
864 \mbox{ inches}^2 <- 864 \text{ in}^2 ;; 864 in^2 ;; 864 square inches || 137 \frac{1}{2} <- 137.5
\frac16 <- 0.1\overline{6} || \frac{x+1}{x-1} <- \frac{x^2-1}{x^2-2x+1} || 24 <- 4! || 1.5\pi <- 3\frac{\pi}{2}
(30,60) <- (30^\circ, 60^\circ) || 2x <- f(x) = 2x || 0.5 <- P(A) = \frac12 ;; \frac12=0.5
\sqrt2 <- x = \sqrt{2} \approx 1.41 || 1,2,3 <- 1, 2, and 3 || \sqrt{4x} <- 2\sqrt{x} || 7 <- 2 \cdot 3\frac{1}{2}
-7 <- -2 \cdot 3\frac12 || 1 <- (2)\frac{1}{2} || 4798 <- 4\,798 || 2,272,657 <- 2\,272\,657
20 <- 20^\circ\text{C} || (2,3) <- left(2,3right)
""")

REJECTED = pairs(r"""
\frac{1}{3} <- 0.33 || \frac13 <- 0.333333333333333333333 ;; x \approx 0.33 || \pi <- 3.14159265358979323846
\sqrt{2} <- 1.41421356237309504880 ;; \sqrt{2}+10^{-60} || -\frac{1}{2} <- -\frac{1}{-2}
1\frac{1}{2} <- \frac{1}{2} || 1 <- 1.0000001 ;; 1+10^{-500} ;; \sqrt{1+10^{-500}}
x=5 <- y=5 ;; 2x=10 ;; y is 5 ;; x=3 ;; x=5, y=3 ;; x<5 || y=2x+1 <- y = 2x || (2,5) <- [2,5] ;; (2,5] ;; (2, 5\%)
1,2 <- 1,2,2 ;; [1,2] ;; (1,2) || 1,2,2 <- 1,2 || 1,2,3 <- 1,2,3,4 ;; 1,2,,3 || \pm 2 <- 2
(1,2) <- (2,1) ;; 2,1 ;; (1,2,3) ;; (1,,2) ;; \{1,2\} ;; +(1,2) || 2516_8 <- 2516_9 || 40 <- 40_8 ;; 4{10}
x^2+2x+1 <- y^2+2y+1 || \text{east} <- \text{west} || \text{Evelyn} <- Evenly || 52 <- 5²
0 <- \frac{0}{0} ;; 10^{-500} ;; \text{no solution} || \infty <- -\infty ;; 5 ;; \frac{1}{0} ;; \~\infty
5 <- \infty ;; 1000000! ;; (10^{6})! ;; x^{x^{x^{x^{x^{x^x}}}}} ;; (1+x)^{100000} ;; (a+b+c+d+e+f+g)^{60}
5 <- 9^{9^{9^{9}}} ;; 5x ;; 5 x ;; 5 million ;; about 5 ;; not 5 ;; 5 or 6 ;; between 5 and 6 ;; less than 5
5 <- x is not 5 ;; x is 6 ;; The answer is not 5 ;; 5..  ;; import os ;; 5\pi ;; 5i ;; 5e ;; -5 ;; +-5 ;; 5- ;; 3=4=5
5 <- 5! ;; 5' ;; (5 ;; 5) ;; x \ne 5 ;; x \approx 5 ;; \approx 5 ;; 5... ;; 5\ldots ;; \sim 5
5 <- 5 \text{ remainder } 2 ;; - ;; x = :5 ;; x \= 5 || 50\% <- 0.5 ;; \frac12 || \frac14 <- \frac14\% || 0.5 <- 0.5\%
\frac{1}{2^{98}} <- \frac{1}{2^{99}} || 12 <- 1 2 || 6,250 <- 6 ;; 6,25 || 2516.8 <- 2516 || 5x <- 5
2 <- 2b ;; \sqrt{-4} ;; 2\times ;; f(2) || 319 <- 316 || 7 <- 3x+2=7 || 10 <- x \cdot 2 = 10
15\mbox{ cm}^2 <- A = 15 \text{ m}^2 ;; 15 cm^3 ;; 15 m^2 || 3 <- 2\frac{3}{2} ;; 1 \pm 2 ;; 2 \cdot 3\frac{1}{2}
\frac72 <- 2\frac{3}{2} || -\frac{7}{4} <- -1\frac{7}{4} || 25 <- 5 is x squared ;; **5** ;; 25\pi
5.4 \text{ cents} <- 5.4 dollars
\text{(C)} <- (B) ;; \text{(C)} or \text{(B)} ;; \textbf{(C)}\ 12 \textbf{(B)} ;; (C)7 ;; (C)^\circ
[2,\infty) <- x>2 || (2,\infty) <- x<2 || x \in [-2,7] <- -2 < x \le 7 ;; y \in [-2,7]
(-\infty, 2) \cup (3, \infty) <- (-\infty,2) ;; (-\infty,2) \cap (3,\infty)
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} <- \begin{pmatrix}1&2\\4&3\end{pmatrix}
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} <- \begin{pmatrix}1&2&3&4\end{pmatrix}
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} <- \begin{vmatrix}1&2\\3&4\end{vmatrix} || -2+7i <- 7-2i
\sqrt{5} <- \sqrt{2}+\sqrt{3} || 5.962 <- \sqrt{7}+\sqrt{11} || x <- x+2^{255}-19 ;; x+2^{127}-1 ;; x + 10^{-50}
\cot x <- \cos x || \sin y <- \sin x || 8 <- 2**3 || 2x <- x^2 || x_2 <- x_1 || 1.23 <- 1.2.3 || 1.2 <- 1,2
2k+2 <- 2k || x+1 <- \frac{x^2-1}{x-1} || 72\% <- 72^\circ || 10^{-500} <- 0 || \text{odd} <- \text{even}
13 <- 12\text{th} || \sqrt2 <- 1.41 \approx \sqrt{2} || ab <- AB || 0.6 <- \frac12=0.6 || y=5 <- f(x)=5
1358 <- 2516_8 || a=1, b=2 <- a=1, b=3 || 11,\! 111,\! 111,\! 100 <- 11,111,111,10 || 58,500 <- 58,50
x = 5 <- x \neq 5 || \frac{4}{3} <- \frac{3}{4} || y = 2x + 3 <- y = 2x + b || (2,3) <- eft(2, 3)
(-\infty,1)\cup(-27,3] <- x<1 \text{ or y} -27 < x \le 3 || 7\text{ cm}^2 <- 7 c^2 || -\infty <- 0\infty
y=2x <- y^\circ = 2x || 27 <- 3\% \cdot 9 || \frac25 <- \frac{2}{5^\circ} || 74 <- 1\$ 74 || 4\,798 <- 4 798
10,080 <- 10, 080 || 2272657 <- 2\,272,657 || (0,2) <- 0 < xt < 2 || \frac{8}{13} <- 8\/13
""")
